/**
 * What structured output costs: compiling a grammar, and the way from a sampled token to the next mask, through the
 * grammar worker. KVRM_TOKENIZER names the folder of another tokenizer than that of models/tiny.
 *
 * @module
 */
import { allocateBoard, MaskClient } from "../../runtime/grammar/board.ts";
import { grammarOf } from "../../runtime/grammar/constraint.ts";
import { GrammarService } from "../../runtime/grammar/service.ts";
import { loadVocabulary } from "../../runtime/grammar/vocabulary.ts";
import { ModelTokenizer } from "../../runtime/model/tokenizer.ts";
import { greedyOptions, Sequence } from "../../runtime/sequence.ts";
import type { Constraint } from "../../runtime/types.ts";
import { median, quantile, type Report, type Rows } from "../report.ts";

const TOKENS = 500;

const CONSTRAINTS: Readonly<Record<string, Constraint>> = {
  "any JSON object": { type: "json" },
  "a schema of 6 properties": {
    type: "jsonSchema",
    schema: {
      type: "object",
      properties: {
        name: { type: "string" },
        age: { type: "integer", minimum: 0, maximum: 150 },
        mail: { type: "string", pattern: "^[a-z]+@[a-z]+\\.com$" },
        tags: { type: "array", items: { type: "string" }, minItems: 1, maxItems: 5 },
        kind: { enum: ["a", "b", "c"] },
        place: { type: "object", properties: { x: { type: "number" }, y: { type: ["string", "null"] } } },
      },
      required: ["name", "age", "mail", "tags", "kind", "place"],
    },
  },
  "a pattern": { type: "regex", pattern: "[A-Z][a-z]+( [a-z]+)*[.!?]" },
};

/** Runs the suite. */
export async function run(): Promise<Report[]> {
  const folder = Deno.env.get("KVRM_TOKENIZER") ?? new URL("../../models/tiny", import.meta.url).pathname;
  const tokenizer = await ModelTokenizer.fromFolder(folder);
  const vocab = tokenizer.vocabSize;
  const stop = tokenizer.eosTokenId ?? vocab - 1;
  const board = allocateBoard(1, 4096, vocab);
  const onBroken = (_: number, error: Error) => {
    throw error;
  };
  const vocabulary = () => loadVocabulary(tokenizer, vocab, [stop]);
  const service = new GrammarService({ board, vocabulary, onBroken });
  const start = performance.now();
  await service.acquire(grammarOf({ type: "literal", text: "a" }));
  const started = performance.now() - start;
  const client = new MaskClient(board);
  const rows: Rows = [];
  let id = 0;
  for (const [name, constraint] of Object.entries(CONSTRAINTS)) {
    const asked = performance.now();
    const grammar = await service.acquire(grammarOf(constraint));
    const compiled = performance.now() - asked;
    const times: number[] = [];
    for (let seed = 1; times.length < TOKENS; seed++) walk(client, ++id, grammar, stop, vocab, seed, times);
    rows.push({
      constraint: name,
      "compile ms": compiled,
      "mask p50 us": median(times) * 1000,
      "mask p90 us": quantile(times, 0.9) * 1000,
      "mask p99 us": quantile(times, 0.99) * 1000,
    });
  }
  service.close();
  const first = `the first grammar, with both workers and the vocabulary of ${vocab} tokens: ${
    started.toFixed(0)
  } ms`;
  return [{ suite: "grammar", rows, notes: [first] }];
}

/** One text at random; the time from each token to the mask after it goes to `times`. */
function walk(
  client: MaskClient,
  id: number,
  grammar: number,
  stop: number,
  vocab: number,
  seed: number,
  times: number[],
): void {
  const sequence = new Sequence({
    ...greedyOptions(id, Int32Array.of(0), 4000),
    stopTokens: Int32Array.of(stop),
    grammar,
  });
  sequence.slot = 0;
  let state = seed;
  for (let i = 0; i < 200; i++) {
    const start = performance.now();
    client.begin();
    while (!client.ready(sequence)) {
      client.wait(10);
      client.begin();
    }
    times.push(performance.now() - start);
    const mask = client.mask(sequence);
    const allowed: number[] = [];
    for (let token = 0; token < vocab; token++) {
      if (mask[token >> 5]! >>> (token & 31) & 1) allowed.push(token);
    }
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    const token = allowed[(state >> 8) % allowed.length]!;
    if (token === stop) break;
    sequence.tokens[sequence.length++] = token;
  }
  client.close(sequence);
}
