/**
 * Reads the golden fixtures: see tests/fixtures/README.md.
 *
 * @module
 */

/** Tests run from the repository; fixtures lie here. */
export const FIXTURES = `${import.meta.dirname}/fixtures`;

/** A model's golden.json, as far as tests use it. */
export interface Golden {
  prompts: {
    name: string;
    ids: number[];
    greedy_ids: number[];
    prompt_logits: string | null;
    step_logits: string;
  }[];
  eos_ids: number[];
  eos_prompt: { ids: number[]; greedy_ids: number[] };
}

/** Names of the model fixtures. */
export function goldenModels(): string[] {
  return [...Deno.readDirSync(`${FIXTURES}/models`)].filter((e) => e.isDirectory).map((e) => e.name).sort();
}

/** golden.json and the float32 tensors beside it, by key. */
export function readGolden(model: string): { golden: Golden; tensor(key: string): Float32Array } {
  const folder = `${FIXTURES}/models/${model}`;
  const golden = JSON.parse(Deno.readTextFileSync(`${folder}/golden.json`)) as Golden;
  const file = Deno.readFileSync(`${folder}/golden.safetensors`);
  const view = new DataView(file.buffer);
  const headerBytes = Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + headerBytes))) as Record<
    string,
    { data_offsets: [number, number] }
  >;
  return {
    golden,
    tensor(key) {
      const entry = header[key];
      if (!entry) throw new Error(`${folder}/golden.safetensors has no tensor ${key}`);
      const [from, to] = entry.data_offsets;
      return new Float32Array(file.slice(8 + headerBytes + from, 8 + headerBytes + to).buffer);
    },
  };
}

/** Largest difference between two vectors, as a share of the largest reference value. */
export function relativeError(found: ArrayLike<number>, wanted: ArrayLike<number>): number {
  let scale = 0;
  let error = 0;
  for (let i = 0; i < wanted.length; i++) {
    scale = Math.max(scale, Math.abs(wanted[i]!));
    const difference = Math.abs(found[i]! - wanted[i]!);
    error = Number.isNaN(difference) ? Infinity : Math.max(error, difference);
  }
  return error / scale;
}

/** The folder of shared test models, or null where it is absent, as in a user's clone. */
export function sharedFolder(part: string): string | null {
  const root = Deno.env.get("KVRM_SHARED") ?? `${import.meta.dirname}/../../shared`;
  try {
    return Deno.statSync(`${root}/${part}`).isDirectory ? `${root}/${part}` : null;
  } catch {
    return null;
  }
}
