/**
 * What llama.cpp answers to the prompts that the quantised models are tested with: committed, and asked again where
 * KVRM_NODE_LLAMA_CPP names a folder `node_modules` with its prebuilt package (`npm install node-llama-cpp`).
 *
 *     KVRM_NODE_LLAMA_CPP=path/to/node_modules deno run -A tests/llama_cpp.ts
 *
 * writes tests/fixtures/llama_cpp.json anew.
 *
 * @module
 */
import { FIXTURES } from "./golden.ts";
import { BLOCK_FORMATS, FIRST_TOKEN, VOCAB, writeQuantisedModel } from "./quantised_model.ts";

/** Tokens of each answer. */
export const ANSWER_TOKENS = 8;

/** Prompts of different lengths, for each model the same. */
export const PROMPTS: readonly (readonly number[])[] = Array.from(
  { length: 6 },
  (_, p) => Array.from({ length: 4 + 3 * p }, (_, i) => FIRST_TOKEN + (p * 37 + i * 91) % (VOCAB - 40)),
);

/** Greedy ids: [format][prompt][token]. */
export interface LlamaCppIds {
  version: string;
  ids: number[][][];
}

/** The committed ids. */
export function committedIds(): LlamaCppIds {
  return JSON.parse(Deno.readTextFileSync(`${FIXTURES}/llama_cpp.json`));
}

/** Asks llama.cpp. */
export async function askLlamaCpp(nodeModules: string): Promise<LlamaCppIds> {
  const folder = await Deno.makeTempDir({ prefix: "kvrm-llama-cpp-" });
  try {
    const models = BLOCK_FORMATS.map((format) => `${folder}/${format}.gguf`);
    BLOCK_FORMATS.forEach((format, i) => writeQuantisedModel(models[i]!, format));
    const request = JSON.stringify({ models, prompts: PROMPTS, count: ANSWER_TOKENS });
    const { success, stdout, stderr } = await new Deno.Command("node", {
      args: [`${FIXTURES}/llama_cpp_ids.mjs`, nodeModules, request],
    }).output();
    const text = new TextDecoder();
    if (!success) throw new Error(`node-llama-cpp failed: ${text.decode(stderr)}`);
    return JSON.parse(text.decode(stdout).trim().split("\n").at(-1)!);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) {
  const { version, ids } = await askLlamaCpp(Deno.env.get("KVRM_NODE_LLAMA_CPP") ?? "");
  const lines = ids.map((answers) => JSON.stringify(answers));
  await Deno.writeTextFile(
    `${FIXTURES}/llama_cpp.json`,
    `{\n  "version": ${JSON.stringify(version)},\n  "ids": [\n    ${lines.join(",\n    ")}\n  ]\n}\n`,
  );
}
