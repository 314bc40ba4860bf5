/**
 * Traces of production services: when requests came, how long prompt and answer were, and which prompts began
 * alike. They carry no text.
 *
 * @module
 */
import { exponential, lognormal, random } from "./random.ts";

/** One line of a trace. Lengths in tokens, one or more. */
export interface TraceRecord {
  /** Milliseconds from the first request on. */
  timeMs: number;
  prompt: number;
  answer: number;
  /** Each stands for {@link PREFIX_TOKENS} tokens of the prompt; equal ones are equal tokens. */
  prefixIds?: readonly number[];
}

/** Tokens that one prefix id stands for: Mooncake's block. */
export const PREFIX_TOKENS = 512;

/** A trace's file as published: `.csv` is Azure's, `.jsonl` Mooncake's. Throws an Error naming what is wrong. */
export function readTrace(path: string): TraceRecord[] {
  const text = Deno.readTextFileSync(path);
  const records = path.endsWith(".jsonl") ? parseMooncake(text) : parseAzure(text);
  if (records.length === 0) throw new Error(`the trace ${path} has no requests`);
  return records;
}

/** Azure LLM inference traces: TIMESTAMP (to 100 ns), ContextTokens, GeneratedTokens. */
export function parseAzure(text: string): TraceRecord[] {
  const rows = text.trim().split(/\r?\n/).slice(1);
  let start = NaN;
  return ordered(rows.map((row, i) => {
    const [stamp = "", context, generated] = row.split(",");
    // Date knows milliseconds only.
    const time = Date.parse(`${stamp.slice(0, 19).replace(" ", "T")}Z`) +
      Number(`0${stamp.slice(19)}`) * 1000;
    if (i === 0) start = time;
    return record(i + 2, time - start, Number(context), Number(generated));
  }));
}

/** Mooncake's traces: timestamp in ms, input_length, output_length, hash_ids. */
export function parseMooncake(text: string): TraceRecord[] {
  return ordered(
    text.trim().split(/\r?\n/).map((row, i) => {
      const { timestamp, input_length, output_length, hash_ids } = JSON.parse(row);
      return { ...record(i + 1, timestamp, input_length, output_length), prefixIds: hash_ids as number[] };
    }),
  );
}

/**
 * A trace of the repository's own: conversations of several turns, each prompt the whole conversation so far,
 * that come in a calm that bursts interrupt. The same in each run.
 */
export function syntheticTrace(count: number, seed = 1): TraceRecord[] {
  const rnd = random(seed);
  const records: TraceRecord[] = [];
  let time = 0, nextId = 1, burst = 0;
  const conversations: { length: number; ids: number[] }[] = [];
  while (records.length < count) {
    // One request in forty begins a burst: twenty requests on average, ten times as close.
    if (burst > 0) burst--;
    else if (rnd() < 1 / 40) burst = Math.ceil(exponential(rnd, 20));
    time += exponential(rnd, burst > 0 ? 30 : 300);
    const turns = conversations.length > 0 && rnd() < 0.6;
    const conversation = turns
      ? conversations[Math.floor(rnd() * conversations.length)]!
      : { length: 0, ids: [] };
    if (!turns) conversations.push(conversation);
    if (conversations.length > 32) conversations.shift();
    conversation.length = Math.min(14_000, conversation.length + lognormal(rnd, 700, 0.8, 8_000));
    while (conversation.ids.length * PREFIX_TOKENS < conversation.length) conversation.ids.push(nextId++);
    const answer = lognormal(rnd, 130, 0.8, 1_500);
    records.push({
      timeMs: time - (records[0]?.timeMs ?? time),
      prompt: conversation.length,
      answer,
      prefixIds: conversation.ids.slice(),
    });
    conversation.length += answer;
  }
  records[0]!.timeMs = 0;
  return ordered(records.map((one) => ({ ...one, timeMs: Math.max(0, one.timeMs) })));
}

/** Where the `spanMs` of the trace begin in which the most tokens come. */
export function worstWindow(records: readonly TraceRecord[], spanMs: number): number {
  let sum = 0, first = 0, most = -1, at = 0;
  for (const one of records) {
    sum += one.prompt + one.answer;
    while (records[first]!.timeMs <= one.timeMs - spanMs) {
      sum -= records[first]!.prompt + records[first]!.answer;
      first++;
    }
    if (sum > most) {
      most = sum;
      at = records[first]!.timeMs;
    }
  }
  return at;
}

function record(line: number, timeMs: number, prompt: number, answer: number): TraceRecord {
  const wrong = !Number.isFinite(timeMs)
    ? `the time ${timeMs}`
    : !(prompt >= 0)
    ? `a prompt of ${prompt}`
    : !(answer >= 0)
    ? `an answer of ${answer}`
    : "";
  if (wrong) throw new Error(`line ${line} of the trace has ${wrong}, wanted a number of 0 or more`);
  return { timeMs, prompt: Math.max(1, Math.round(prompt)), answer: Math.max(1, Math.round(answer)) };
}

function ordered(records: TraceRecord[]): TraceRecord[] {
  return records.sort((a, b) => a.timeMs - b.timeMs);
}
