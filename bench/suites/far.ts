/**
 * What far history costs in quality: perplexity and the most probable token against exact attention, over the
 * length of the context, with summary rows and with a plain sliding window of the same memory. Real weights: the
 * embedded model, and stories260K where its folder is found. Texts are what the model writes itself (temperature 1,
 * exact attention, never an end), and such a text followed by itself, where what is far away is what counts.
 *
 * @module
 */
import { KVRM } from "../../ffi/mod.ts";
import { UNADJUSTED } from "../../runtime/adjustment.ts";
import { EngineHost } from "../../runtime/host.ts";
import type { LoopSink, Tops } from "../../runtime/loop.ts";
import { loadModelTables, type ModelTables } from "../../runtime/model/tables.ts";
import { type EngineOptions, engineSizes } from "../../runtime/options.ts";
import { Sequence } from "../../runtime/sequence.ts";
import type { Report, Rows } from "../report.ts";

interface Subject {
  name: string;
  folder: string;
  /** Tokens of a text. */
  context: number;
  blockTokens: 16 | 32;
  farWindow: number;
  farRows: number;
  texts: number;
}

const ROOT = `${import.meta.dirname}/../..`;
const SHARED = Deno.env.get("KVRM_SHARED") ?? `${ROOT}/../shared`;
const SUBJECTS: readonly Subject[] = [
  {
    name: "tiny",
    folder: `${ROOT}/models/tiny`,
    context: 2048,
    blockTokens: 32,
    farWindow: 256,
    farRows: 16,
    texts: 6,
  },
  {
    name: "stories260K",
    folder: `${SHARED}/models/stories260K`,
    context: 512,
    blockTokens: 16,
    farWindow: 64,
    farRows: 8,
    texts: 16,
  },
];

/** Log probability of each token of a text, and the token that was the most probable in its place. */
class Scores implements LoopSink {
  readonly generated: number[] = [];
  logprobs = new Float64Array(0);
  best = new Int32Array(0);

  clear(length: number): void {
    this.generated.length = 0;
    this.logprobs = new Float64Array(length);
    this.best = new Int32Array(length);
  }
  admitted(): void {}
  ended(): void {}
  token(_: Sequence, token: number): void {
    this.generated.push(token);
  }
  promptToken(_: Sequence, position: number, logprob: number, tops: Tops, at: number): void {
    this.logprobs[position] = logprob;
    this.best[position] = tops.u32[at]!;
  }
}

/** A text to score, or one to write, which `end` never ends. */
function sequence(
  id: number,
  prompt: readonly number[],
  maxTokens: number,
  seed: number,
  end: number,
): Sequence {
  return new Sequence({
    id,
    prompt: Int32Array.from(prompt),
    maxTokens,
    temperature: maxTokens > 0 ? 1 : 0,
    topK: 0,
    topP: 1,
    minP: 0,
    ...UNADJUSTED,
    ...(maxTokens > 0 && { biasTokens: Int32Array.of(end), biasValues: Float32Array.of(-1e4) }),
    seedLo: seed,
    seedHi: 0,
    logprobs: 0,
    promptLogprobs: maxTokens > 0 ? 0 : 2,
    stopTokens: new Int32Array(0),
    grammar: 0,
    priority: 0,
    parent: null,
  });
}

/** One way to keep the history, and the memory that a sequence of the full context has then. */
class Way implements Disposable {
  readonly sink = new Scores();
  readonly host: EngineHost;
  readonly bytes: number;
  #id = 0;

  constructor(readonly name: string, tables: Tables, subject: Subject, far: Omit<EngineOptions, "model">) {
    const options = {
      model: "",
      slots: 1,
      maxContext: subject.context,
      blockTokens: subject.blockTokens,
      prefixCache: false,
      structuredOutput: false,
      ...far,
    };
    const sizes = engineSizes(options, tables, tables.dtype);
    this.host = new EngineHost(tables, sizes, this.sink);
    const blocks = this.host.pager.far?.maxBlocks ?? Math.ceil(subject.context / subject.blockTokens);
    this.bytes = blocks * sizes.blockBytes +
      (sizes.native.farRows ?? 0) * this.host.engine.info.far_row_bytes;
  }

  generate(prompt: readonly number[], count: number, seed: number, end: number): number[] {
    this.#run(sequence(++this.#id, prompt, count, seed, end));
    return this.sink.generated.slice();
  }

  score(text: readonly number[]): { logprobs: Float64Array; best: Int32Array } {
    this.#run(sequence(++this.#id, text, 0, 0, -1));
    return { logprobs: this.sink.logprobs, best: this.sink.best };
  }

  #run(one: Sequence): void {
    this.sink.clear(one.promptLength);
    this.host.loop.submit(one);
    while (!this.host.loop.idle) this.host.loop.turn(10_000_000);
  }

  [Symbol.dispose](): void {
    this.host[Symbol.dispose]();
  }
}

type Tables = ModelTables & { dtype: string };

/** Sums over the texts and the positions of one stretch of the context. */
interface Stretch {
  from: number;
  end: number;
  tokens: number;
  loss: Map<string, number>;
  agreed: Map<string, number>;
}

function stretches(context: number): Stretch[] {
  const found: Stretch[] = [];
  for (let from = 0, end = context / 16; from < context; from = end, end *= 2) {
    found.push({ from: Math.max(1, from), end, tokens: 0, loss: new Map(), agreed: new Map() });
  }
  return found;
}

function table(subject: Subject, kind: string, ways: readonly Way[], texts: readonly number[][]): Rows {
  const parts = stretches(subject.context);
  for (const text of texts) {
    const scores = ways.map((way) => way.score(text));
    for (const part of parts) {
      part.tokens += part.end - part.from;
      ways.forEach(({ name }, w) => {
        const { logprobs, best } = scores[w]!;
        for (let p = part.from; p < part.end; p++) {
          part.loss.set(name, (part.loss.get(name) ?? 0) - logprobs[p]!);
          const same = best[p] === scores[0]!.best[p] ? 1 : 0;
          part.agreed.set(name, (part.agreed.get(name) ?? 0) + same);
        }
      });
    }
  }
  return parts.map((part) => {
    const row: Rows[number] = { model: subject.name, text: kind, tokens: `${part.from} to ${part.end}` };
    for (const { name } of ways) row[`ppl ${name}`] = Math.exp(part.loss.get(name)! / part.tokens);
    for (const { name } of ways.slice(1)) row[`same ${name} %`] = 100 * part.agreed.get(name)! / part.tokens;
    return row;
  });
}

async function measure(subject: Subject): Promise<{ rows: Rows; note: string }> {
  const { tables: loaded, dtype } = await loadModelTables(subject.folder);
  const tables = { ...loaded, dtype };
  const far = { farWindow: subject.farWindow, farSinks: 4, farRows: subject.farRows };
  using exact = new Way("exact", tables, subject, {});
  using summaries = new Way("summaries", tables, subject, { ...far, farHistory: "summaries" });
  // A window that has the rows' memory too, in whole blocks, rounded up.
  const extra = Math.ceil(
    subject.farRows * summaries.host.engine.info.far_row_bytes / summaries.host.sizes.blockBytes,
  );
  const wider = subject.farWindow + extra * subject.blockTokens;
  using window = new Way("window", tables, subject, { ...far, farWindow: wider, farHistory: "window" });
  const ways = [exact, summaries, window];

  const config = JSON.parse(Deno.readTextFileSync(`${subject.folder}/config.json`));
  const written = Array.from({ length: subject.texts }, (_, seed) => {
    const start: number[] = [config.bos_token_id];
    return [...start, ...exact.generate(start, subject.context - 1, seed + 1, config.eos_token_id)];
  });
  const twice = written.map((
    text,
  ) => [...text.slice(0, subject.context / 2), ...text.slice(0, subject.context / 2)]);
  const kib = (way: Way) => `${way.name} ${(way.bytes / 1024).toFixed(0)} KiB`;
  return {
    rows: [...table(subject, "its own", ways, written), ...table(subject, "twice the same", ways, twice)],
    note:
      `${subject.name}: ${subject.texts} texts of ${subject.context} tokens; window ${subject.farWindow} and ` +
      `${subject.farRows} rows, or window ${wider}; a sequence has ${ways.map(kib).join(", ")}`,
  };
}

/** Runs the suite. */
export async function run(): Promise<Report[]> {
  const rows: Rows = [];
  const notes: string[] = [];
  for (const subject of SUBJECTS) {
    try {
      Deno.statSync(subject.folder);
    } catch {
      notes.push(`${subject.name} is left out: there is no ${subject.folder}`);
      continue;
    }
    const measured = await measure(subject);
    rows.push(...measured.rows);
    notes.push(measured.note);
  }
  notes.push(
    `at most ${KVRM.MAX_FAR_ROWS} rows; "same": share of tokens whose most probable one is exact attention's`,
  );
  return [{ suite: "far history: perplexity and agreement with exact attention", rows, notes }];
}
