/**
 * What the server's isolate and the engine's worker say to each other over the rings: records of 32-bit
 * words, the first a tag.
 *
 * @module
 */
import { dryWords, putDry, takeDry } from "./dry.ts";
import type { LoopSink, Tops } from "./loop.ts";
import { MIROSTAT_WORDS, putMirostat, takeMirostat } from "./mirostat.ts";
import type { Ring } from "./ring.ts";
import type { RuleOptions } from "./rules.ts";
import { putSamplers, SAMPLER_WORDS, takeSamplers } from "./samplers.ts";
import { Sequence, type SequenceOptions } from "./sequence.ts";
import { now } from "./telemetry/request_metrics.ts";
import type { EngineStats } from "./types.ts";

/** Tags of records to the worker. */
export const Command = { SUBMIT: 1, CANCEL: 2 } as const;

/** Tags of records from the worker. */
export const Event = { ADMITTED: 1, TOKEN: 2, PROMPT_TOKEN: 3, ENDED: 4, PREEMPTED: 5, TIME: 6 } as const;

/** Words of shared control memory. */
export const Control = { STOP: 0, HEARTBEAT: 1, WORDS: 16 } as const;

/** Indices into the shared statistics, float64. */
export const Stat = {
  RUNNING: 0,
  WAITING: 1,
  BLOCKS_ACTIVE: 2,
  BLOCKS_CACHED: 3,
  BLOCKS_FREE: 4,
  STEPS: 5,
  GENERATED: 6,
  PROMPT: 7,
  CACHED: 8,
  PREEMPTIONS: 9,
  COUNT: 16,
} as const;

/** The shared statistics as the engine's callers see them. */
export function readStats(
  stats: Float64Array,
  { slots, blocks, heartbeatAgeMs }: { slots: number; blocks: number; heartbeatAgeMs: number },
): EngineStats {
  return {
    running: stats[Stat.RUNNING]!,
    waiting: stats[Stat.WAITING]!,
    slots,
    blocks: {
      total: blocks,
      active: stats[Stat.BLOCKS_ACTIVE]!,
      cached: stats[Stat.BLOCKS_CACHED]!,
      free: stats[Stat.BLOCKS_FREE]!,
    },
    steps: stats[Stat.STEPS]!,
    generatedTokens: stats[Stat.GENERATED]!,
    promptTokens: stats[Stat.PROMPT]!,
    cachedTokens: stats[Stat.CACHED]!,
    preemptions: stats[Stat.PREEMPTIONS]!,
    heartbeatAgeMs,
  };
}

/** A request's choice, as the server's isolate describes it. */
export interface Submission extends Omit<SequenceOptions, "parent"> {
  /** Id of the request's first choice, or -1. */
  parent: number;
}

const SUBMIT_WORDS = 24 + SAMPLER_WORDS + MIROSTAT_WORDS;
/** Before the arrays of rules: vocabulary, tokens at least, and the arrays' lengths. */
const RULE_WORDS = 6;

/** Words that a submission takes on the ring. */
export function submitWords(submission: Submission): number {
  const { stopTokens, biasTokens, prompt, rules, dry } = submission;
  return SUBMIT_WORDS + stopTokens.length + 2 * biasTokens.length + prompt.length + ruleWords(rules) +
    dryWords(dry);
}

function ruleWords(rules: RuleOptions | null): number {
  if (rules === null) return 0;
  const { allowed, endTokens, badTokens, badLengths } = rules;
  return RULE_WORDS + allowed.length + endTokens.length + badTokens.length + badLengths.length;
}

/** Puts a submission; the caller has checked the room and publishes. */
export function putSubmit(ring: Ring, submission: Submission): void {
  ring.put(Command.SUBMIT);
  ring.put(submission.id);
  ring.put(submission.prompt.length);
  ring.put(submission.stopTokens.length);
  ring.put(submission.biasTokens.length);
  ring.put(submission.maxTokens);
  ring.putFloat(submission.temperature);
  ring.put(submission.topK);
  ring.putFloat(submission.topP);
  ring.putFloat(submission.minP);
  ring.putFloat(submission.presencePenalty);
  ring.putFloat(submission.frequencyPenalty);
  ring.putFloat(submission.repetitionPenalty);
  ring.put(submission.penaltyLastN);
  ring.put(submission.seedLo);
  ring.put(submission.seedHi);
  ring.put(submission.logprobs);
  ring.put(submission.promptLogprobs);
  ring.put(submission.priority);
  ring.put(submission.parent);
  ring.put(submission.grammar);
  ring.put(submission.rules === null ? 0 : 1);
  ring.put(submission.samplers === null ? 0 : 1);
  if (submission.samplers !== null) putSamplers(ring, submission.samplers);
  putMirostat(ring, submission.mirostat);
  ring.put(submission.dry === null ? 0 : 1);
  if (submission.dry !== null) putDry(ring, submission.dry);
  for (const token of submission.stopTokens) ring.put(token);
  for (const token of submission.biasTokens) ring.put(token);
  for (const bias of submission.biasValues) ring.putFloat(bias);
  for (const token of submission.prompt) ring.put(token);
  if (submission.rules !== null) putRules(ring, submission.rules);
}

function putRules(ring: Ring, rules: RuleOptions): void {
  const arrays = [rules.allowed, rules.endTokens, rules.badTokens, rules.badLengths];
  ring.put(rules.vocab);
  ring.put(rules.minTokens);
  for (const array of arrays) ring.put(array.length);
  for (const array of arrays) for (let i = 0; i < array.length; i++) ring.put(array[i]!);
}

function takeRules(ring: Ring): RuleOptions {
  const vocab = ring.take();
  const minTokens = ring.take();
  const allowed = new Uint32Array(ring.take());
  const endTokens = new Int32Array(ring.take());
  const badTokens = new Int32Array(ring.take());
  const badLengths = new Int32Array(ring.take());
  for (const array of [allowed, endTokens, badTokens, badLengths]) {
    for (let i = 0; i < array.length; i++) array[i] = ring.take();
  }
  return { vocab, allowed, minTokens, endTokens, badTokens, badLengths };
}

/** Takes a submission whose tag was taken already. */
export function takeSubmit(ring: Ring, parentOf: (id: number) => Sequence | null): Sequence {
  const id = ring.take();
  const promptLength = ring.take();
  const stopCount = ring.take();
  const biasCount = ring.take();
  const maxTokens = ring.take();
  const temperature = ring.takeFloat();
  const topK = ring.take();
  const topP = ring.takeFloat();
  const minP = ring.takeFloat();
  const presencePenalty = ring.takeFloat();
  const frequencyPenalty = ring.takeFloat();
  const repetitionPenalty = ring.takeFloat();
  const penaltyLastN = ring.take();
  const seedLo = ring.take();
  const seedHi = ring.take();
  const logprobs = ring.take();
  const promptLogprobs = ring.take();
  const priority = ring.take();
  const parent = parentOf(ring.take());
  const grammar = ring.take();
  const ruled = ring.take() === 1;
  const samplers = ring.take() === 1 ? takeSamplers(ring) : null;
  const mirostat = takeMirostat(ring);
  const dry = ring.take() === 1 ? takeDry(ring) : null;
  const stopTokens = new Int32Array(stopCount);
  for (let i = 0; i < stopCount; i++) stopTokens[i] = ring.take();
  const biasTokens = new Int32Array(biasCount);
  for (let i = 0; i < biasCount; i++) biasTokens[i] = ring.take();
  const biasValues = new Float32Array(biasCount);
  for (let i = 0; i < biasCount; i++) biasValues[i] = ring.takeFloat();
  const prompt = new Int32Array(promptLength);
  for (let i = 0; i < promptLength; i++) prompt[i] = ring.take();
  const rules = ruled ? takeRules(ring) : null;
  return new Sequence({
    id,
    prompt,
    maxTokens,
    temperature,
    topK,
    topP,
    minP,
    samplers,
    mirostat,
    dry,
    presencePenalty,
    frequencyPenalty,
    repetitionPenalty,
    penaltyLastN,
    biasTokens,
    biasValues,
    seedLo,
    seedHi,
    logprobs,
    promptLogprobs,
    priority,
    parent,
    grammar,
    rules,
    stopTokens,
  });
}

/** Puts a time, milliseconds since the epoch, as two words of microseconds. */
function putTime(ring: Ring, time: number): void {
  const microseconds = Math.round(time * 1000);
  ring.put(Math.floor(microseconds / 2 ** 32));
  ring.put(microseconds | 0);
}

/** Takes a time that was put so. */
export function takeTime(ring: Ring): number {
  const high = ring.take();
  return (high * 2 ** 32 + (ring.take() >>> 0)) / 1000;
}

/** Words of the largest event, the time before it included. */
const EVENT_WORDS = 64;

/** Writes what the loop says to the ring of events; the worker publishes once per turn. */
export class RingSink implements LoopSink {
  readonly #ring: Ring;
  readonly #onFull: () => void;
  readonly #onEnd: (sequence: Sequence) => void;
  /** Whether the events that follow happen at the time that was put last. */
  #timed = false;

  /**
   * @param onFull called when the ring is full: publish, and wait for room
   * @param onEnd called when a sequence has ended
   */
  constructor(ring: Ring, onFull: () => void, onEnd: (sequence: Sequence) => void) {
    this.#ring = ring;
    this.#onFull = onFull;
    this.#onEnd = onEnd;
  }

  /** Time has passed: the next event, if there is one, is preceded by the time. */
  tick(): void {
    this.#timed = false;
  }

  preempted(sequence: Sequence): void {
    this.#begin(Event.PREEMPTED, sequence);
  }

  admitted(sequence: Sequence): void {
    this.#begin(Event.ADMITTED, sequence);
    this.#ring.put(sequence.cachedTokens);
  }

  token(
    sequence: Sequence,
    token: number,
    finish: number,
    logprob: number,
    tops: Tops,
    at: number,
    count: number,
  ): void {
    this.#begin(Event.TOKEN, sequence);
    this.#ring.put(token);
    this.#ring.put(finish);
    this.#putLogprobs(sequence.logprobs > 0 ? logprob : NaN, tops, at, count);
    if (finish !== 0) this.#onEnd(sequence);
  }

  promptToken(
    sequence: Sequence,
    position: number,
    logprob: number,
    tops: Tops,
    at: number,
    count: number,
  ): void {
    this.#begin(Event.PROMPT_TOKEN, sequence);
    this.#ring.put(position);
    this.#putLogprobs(logprob, tops, at, count);
  }

  ended(sequence: Sequence, finish: number): void {
    this.#begin(Event.ENDED, sequence);
    this.#ring.put(finish);
    this.#onEnd(sequence);
  }

  #begin(tag: number, sequence: Sequence): void {
    while (!this.#ring.hasRoom(EVENT_WORDS)) this.#onFull();
    if (!this.#timed) {
      this.#timed = true;
      this.#ring.put(Event.TIME);
      putTime(this.#ring, now());
    }
    this.#ring.put(tag);
    this.#ring.put(sequence.id);
  }

  #putLogprobs(logprob: number, tops: Tops, at: number, count: number): void {
    this.#ring.putFloat(logprob);
    this.#ring.put(count);
    for (let i = 0; i < count; i++) {
      this.#ring.put(tops.u32[at + 2 * i]! | 0);
      this.#ring.putFloat(tops.f32[at + 2 * i + 1]!);
    }
  }
}
