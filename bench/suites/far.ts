/**
 * What far history costs in quality: perplexity and the most probable token against exact attention, over the
 * length of the context, with summary rows and with a plain sliding window of the same memory. Real weights: the
 * embedded model, and stories260K where its folder is found.
 *
 * @module
 */
import { EngineHost } from "../../runtime/host.ts";
import type { LoopSink, Tops } from "../../runtime/loop.ts";
import { type LoadedTables, loadModelTables } from "../../runtime/model/tables.ts";
import { type EngineOptions, engineSizes } from "../../runtime/options.ts";
import { greedyOptions, Sequence } from "../../runtime/sequence.ts";
import { casesOf, measured, ratio, round, type SuiteResult } from "../evaluation/results.ts";
import { type Context, inTurn, type Part, type Section, type Suite } from "../evaluation/suite.ts";
import { figure, list, times, withSpread } from "../evaluation/words.ts";

interface Subject {
  name: string;
  folder: string;
  /** Tokens of a text. */
  context: number;
  blockTokens: 16 | 32;
  farWindow: number;
  farRows: number;
  /** Texts of one repeat. */
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
    texts: 2,
  },
  {
    name: "stories260K",
    folder: `${SHARED}/models/stories260K`,
    context: 512,
    blockTokens: 16,
    farWindow: 64,
    farRows: 8,
    texts: 6,
  },
];
const KINDS = ["its own text", "twice the same"] as const;
const SIDES = ["exact", "summaries", "window"] as const;
const nameOf = (subject: Subject, kind: string) => `${subject.name}, ${kind}`;
const NAMES = SUBJECTS.flatMap((subject) => KINDS.map((kind) => nameOf(subject, kind)));
/** Perplexities closer than this are no difference. */
const NOISE = 0.005;

/** Log probability of each token of a text, and the token that was the most probable in its place. */
class Scores implements LoopSink {
  /** What each sequence wrote, by its id. */
  readonly written = new Map<number, number[]>();
  logprobs = new Float64Array(0);
  best = new Int32Array(0);

  clear(length: number): void {
    this.written.clear();
    this.logprobs = new Float64Array(length);
    this.best = new Int32Array(length);
  }
  admitted(): void {}
  ended(): void {}
  token({ id }: Sequence, token: number): void {
    const text = this.written.get(id);
    if (text) text.push(token);
    else this.written.set(id, [token]);
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
    ...greedyOptions(id, Int32Array.from(prompt), maxTokens),
    temperature: maxTokens > 0 ? 1 : 0,
    ...(maxTokens > 0 && { biasTokens: Int32Array.of(end), biasValues: Float32Array.of(-1e4) }),
    seedLo: seed,
    promptLogprobs: maxTokens > 0 ? 0 : 2,
  });
}

/** One way to keep the history, and the memory that a sequence of the full context has then. */
class Way implements Disposable {
  readonly sink = new Scores();
  readonly host: EngineHost;
  readonly bytes: number;
  #id = 0;

  constructor({ tables, dtype }: LoadedTables, subject: Subject, far: Omit<EngineOptions, "model">) {
    const options = {
      model: "",
      slots: far.farHistory === undefined ? subject.texts : 1,
      maxContext: subject.context,
      blockTokens: subject.blockTokens,
      prefixCache: false,
      structuredOutput: false,
      ...far,
    };
    const sizes = engineSizes(options, tables, dtype);
    this.host = new EngineHost(tables, sizes, this.sink);
    const blocks = this.host.pager.far?.maxBlocks ?? Math.ceil(subject.context / subject.blockTokens);
    this.bytes = blocks * sizes.blockBytes +
      (sizes.native.farRows ?? 0) * this.host.engine.info.far_row_bytes;
  }

  /** Texts that begin with `start`, one for each seed, written side by side. */
  write(start: readonly number[], count: number, seeds: readonly number[], end: number): number[][] {
    const all = seeds.map((seed) => sequence(++this.#id, start, count, seed, end));
    this.#run(all);
    return all.map(({ id }) => [...start, ...this.sink.written.get(id)!]);
  }

  score(text: readonly number[]): { logprobs: Float64Array; best: Int32Array } {
    this.#run([sequence(++this.#id, text, 0, 0, -1)]);
    return { logprobs: this.sink.logprobs, best: this.sink.best };
  }

  #run(sequences: readonly Sequence[]): void {
    this.sink.clear(sequences[0]!.promptLength);
    for (const one of sequences) this.host.loop.submit(one);
    while (!this.host.loop.idle) this.host.loop.turn(10_000_000);
  }

  [Symbol.dispose](): void {
    this.host[Symbol.dispose]();
  }
}

/** Stretches of the context, each twice as long as the one before. */
function stretches(context: number): { from: number; end: number; name: string }[] {
  const found = [];
  for (let from = 0, end = context / 16; from < context; from = end, end *= 2) {
    found.push({ from: Math.max(1, from), end, name: `${from}–${end}` });
  }
  return found;
}

/** Options of the window that has the memory of the rows too, in whole blocks, rounded up. */
function windowOf(subject: Subject, summaries: Way): number {
  const bytes = subject.farRows * summaries.host.engine.info.far_row_bytes;
  return subject.farWindow + Math.ceil(bytes / summaries.host.sizes.blockBytes) * subject.blockTokens;
}

async function run(name: string, context: Context): Promise<{ parts: Part[]; source: string }> {
  const subject = SUBJECTS.find((one) => name.startsWith(`${one.name}, `))!;
  const loaded = await loadModelTables(subject.folder);
  const far = { farWindow: subject.farWindow, farSinks: 4, farRows: subject.farRows };
  using exact = new Way(loaded, subject, {});
  using summaries = new Way(loaded, subject, { ...far, farHistory: "summaries" });
  const wider = windowOf(subject, summaries);
  using window = new Way(loaded, subject, { ...far, farWindow: wider, farHistory: "window" });
  const ways = { exact, summaries, window };

  const config = JSON.parse(Deno.readTextFileSync(`${subject.folder}/config.json`));
  const start: number[] = [config.bos_token_id];
  const half = subject.context / 2;
  context.begin("texts");
  const seeds = Array.from({ length: subject.texts }, (_, i) => 1 + context.repeat * subject.texts + i);
  const texts = exact.write(start, subject.context - 1, seeds, config.eos_token_id)
    .map((text) => name.endsWith(KINDS[1]) ? [...text.slice(0, half), ...text.slice(0, half)] : text);
  const wanted = texts.map((text) => exact.score(text).best);
  const parts = inTurn(SIDES, context.repeat).map((side) => {
    const progress = context.begin(side);
    const values: Record<string, number> = { KiB: round(ways[side].bytes / 1024) };
    const sums = stretches(subject.context).map((part) => ({ ...part, loss: 0, same: 0 }));
    texts.forEach((text, t) => {
      const { logprobs, best } = ways[side].score(text);
      for (const sum of sums) {
        for (let p = sum.from; p < sum.end; p++) {
          sum.loss -= logprobs[p]!;
          sum.same += best[p] === wanted[t]![p] ? 1 : 0;
        }
      }
      progress((t + 1) / texts.length);
    });
    for (const { name, from, end, loss, same } of sums) {
      const tokens = texts.length * (end - from);
      values[`perplexity ${name}`] = round(Math.exp(loss / tokens));
      values[`same ${name}`] = round(100 * same / tokens);
    }
    return { side, values };
  });
  return {
    parts,
    source: `${subject.texts} texts of ${subject.context} tokens a repeat; window ${subject.farWindow} and ` +
      `${subject.farRows} rows, beside a window of ${wider}`,
  };
}

function report(result: SuiteResult): Section {
  const there = casesOf(result, NAMES);
  const subjectOf = (name: string) => SUBJECTS.find((one) => name.startsWith(`${one.name}, `))!;
  const partsOf = (name: string) => stretches(subjectOf(name).context);
  const last = (name: string) => partsOf(name).at(-1)!.name;
  const tables = there.map((name) => ({
    title: `${name}: ${result.sources[name]}; KiB of a sequence: ${
      SIDES.map((side) => `${side} ${figure(measured(result, name, side, "KiB").median)}`).join(", ")
    }`,
    columns: [
      "tokens",
      ...SIDES.map((side) => `perplexity, ${side}`),
      ...SIDES.slice(1).map((side) => `same most probable token, ${side}, %`),
    ],
    rows: partsOf(name).map((part) => [
      part.name,
      ...SIDES.map((side) => withSpread(measured(result, name, side, `perplexity ${part.name}`))),
      ...SIDES.slice(1).map((side) => withSpread(measured(result, name, side, `same ${part.name}`))),
    ]),
  }));
  const against = (name: string, side: string, to: string) =>
    ratio(result, name, side, to, `perplexity ${last(name)}`);
  const better = there.filter((name) => against(name, "summaries", "window").high < 1 - NOISE);
  const worse = there.filter((name) => against(name, "summaries", "window").low > 1 + NOISE);
  const lines = there.map((name) =>
    `${name}, tokens ${last(name)}: perplexity ${
      times(against(name, "summaries", "exact"))
    } of exact attention's with ` +
    `summary rows, ${times(against(name, "window", "exact"))} with the window of the same memory.`
  );
  const verdict = there.length === 0 ? [] : [
    (better.length === 0
      ? "Summary rows beat the plain window of the same memory nowhere in every repeat"
      : `Summary rows beat the plain window of the same memory in every repeat with ${list(better)}`) +
    (worse.length === 0 ? "." : `; the window beats them in every repeat with ${list(worse)}.`),
    "Where a text repeats what is far away, exact attention finds it word by word. A mean over a block cannot, and neither " +
    "can a window: a service whose answers quote or look up old text should not turn this on.",
  ];
  return {
    tables,
    figures: [],
    answer: [...lines, ...verdict],
    headline: there.length === 0
      ? ""
      : there.map((name) =>
        `${name}: perplexity ${
          times(against(name, "summaries", "exact"))
        } of exact, a window of equal memory ${times(against(name, "window", "exact"))}`
      ).join("; "),
  };
}

/** Whether the model's folder is on this machine. */
function isThere({ folder }: Subject): boolean {
  try {
    return Deno.statSync(folder).isDirectory;
  } catch {
    return false;
  }
}

/** The suite. */
export const suite: Suite = {
  name: "far",
  title: "bounded far-history summaries",
  question:
    "What do summary rows cost in quality, beside exact attention, and beside a plain sliding window of the same memory?",
  method: [
    "Real weights: the embedded model, and stories260K. Texts are what the model writes itself (temperature 1, exact attention, never an end), and the first half of such a text twice, where what is far away is what counts. Each is scored token by token in three ways: exact attention; sinks, a near window and summary rows; sinks and a window that is longer by the memory of the rows, in whole blocks, rounded up. Perplexity is over the tokens of a stretch; _same_ is the share of tokens at which the most probable token is exact attention's.",
  ],
  parameters: Object.fromEntries(
    SUBJECTS.map((
      one,
    ) => [one.name, `window ${one.farWindow}, rows ${one.farRows}, block ${one.blockTokens}`]),
  ),
  cases: SUBJECTS.filter(isThere).flatMap((subject) =>
    KINDS.map((kind) => ({
      name: nameOf(subject, kind),
      seconds: subject.name === "tiny" ? 12 : 5,
      parts: 4,
    }))
  ),
  repeats: 4,
  run,
  report,
};
