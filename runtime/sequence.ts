/**
 * One running answer to one prompt: what the scheduler moves between queue and slots.
 *
 * @module
 */
import { Adjustment, UNADJUSTED } from "./adjustment.ts";
import type { DryOptions } from "./dry.ts";
import type { BlockMap } from "./kv/mod.ts";
import { Mirostat, type MirostatOptions } from "./mirostat.ts";
import { type RuleOptions, TokenRules } from "./rules.ts";
import type { SamplerOptions } from "./samplers.ts";

/** Where a sequence is in its life. */
export const State = { WAITING: 0, RUNNING: 1, FINISHED: 2 } as const;

/** Everything about a sequence that its request decides. */
export interface SequenceOptions {
  id: number;
  /** Prompt ids [promptLength]. */
  prompt: Int32Array;
  /** Tokens to generate at most; prompt and answer together fit the context. */
  maxTokens: number;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  /** Penalties of repetitions; null: none. */
  dry: DryOptions | null;
  /** llama.cpp's samplers; null: none. */
  samplers: SamplerOptions | null;
  /** Null: none. With it, of what shapes the distribution only the temperature acts. */
  mirostat: MirostatOptions | null;
  /** 0: off */
  presencePenalty: number;
  /** 0: off */
  frequencyPenalty: number;
  /** 1: off */
  repetitionPenalty: number;
  /** Tokens that these look at, the last ones of prompt and answer; 0: all of them, in their own ways. */
  penaltyLastN: number;
  /** Different token ids, and what is added to their logits. [biases] */
  biasTokens: Int32Array;
  biasValues: Float32Array;
  seedLo: number;
  seedHi: number;
  /** 0: none; 1 + n: the token's and the n best. */
  logprobs: number;
  promptLogprobs: number;
  /** Token ids that end the sequence. */
  stopTokens: Int32Array;
  /** Id of the grammar that its answer has to follow; 0: none. */
  grammar: number;
  /** Which tokens may be sampled, beside that; null: all. */
  rules: RuleOptions | null;
  priority: number;
  /** The first choice of the same request, whose prompt blocks this one shares. */
  parent: Sequence | null;
}

/** Options of a greedy sequence that nothing but its length ends: what measurements run, and tests begin from. */
export function greedyOptions(id: number, prompt: Int32Array, maxTokens: number): SequenceOptions {
  return {
    id,
    prompt,
    maxTokens,
    temperature: 0,
    topK: 0,
    topP: 1,
    minP: 0,
    ...UNADJUSTED,
    seedLo: id,
    seedHi: 0,
    logprobs: 0,
    promptLogprobs: 0,
    stopTokens: new Int32Array(0),
    grammar: 0,
    priority: 0,
    parent: null,
  };
}

/** A sequence. Counts are in tokens; see {@link Sequence.scheduled} for what they mean one step ahead. */
export class Sequence {
  readonly id: number;
  readonly promptLength: number;
  /** Prompt and answer [promptLength + maxTokens]; the first `length` are known. */
  readonly tokens: Int32Array;
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly samplers: SamplerOptions | null;
  readonly mirostat: Mirostat | null;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly repetitionPenalty: number;
  readonly seedLo: number;
  readonly seedHi: number;
  readonly logprobs: number;
  readonly promptLogprobs: number;
  readonly stopTokens: Int32Array;
  readonly grammar: number;
  readonly priority: number;
  /** What it wants of its slot's token state, or null when its logits stay as they are. */
  readonly adjustment: Adjustment | null;
  /** Which tokens it may sample, beside its grammar's; null: all. */
  readonly rules: TokenRules | null;
  parent: Sequence | null;

  state: number = State.WAITING;
  /** Known tokens. */
  length: number;
  /** Samples in flight: committed steps that will yield a token each. */
  pending = 0;
  /** Tokens whose KV a committed step writes (or found in the prefix cache). */
  scheduled = 0;
  slot = -1;
  map: BlockMap | null = null;
  /** Prompt tokens found in the prefix cache at the first admission; -1 before it. */
  cachedTokens = -1;
  /** Order of arrival. */
  arrival = 0;
  /** Tokens of the answer that the grammar worker was told of, -1 before the first time. */
  told = -1;
  /** Which worker, for which slot (-1: none), and which mask will take all of them into account. */
  maskEpoch = 0;
  maskSlot = -1;
  maskVersion = 0;

  constructor(options: SequenceOptions) {
    this.id = options.id;
    this.promptLength = options.prompt.length;
    this.tokens = new Int32Array(options.prompt.length + options.maxTokens);
    this.tokens.set(options.prompt);
    this.length = options.prompt.length;
    this.maxTokens = options.maxTokens;
    this.temperature = options.temperature;
    this.topK = options.topK;
    this.topP = options.topP;
    this.minP = options.minP;
    this.samplers = options.samplers;
    this.mirostat = options.mirostat === null ? null : new Mirostat(options.mirostat);
    this.presencePenalty = options.presencePenalty;
    this.frequencyPenalty = options.frequencyPenalty;
    this.repetitionPenalty = options.repetitionPenalty;
    this.adjustment = Adjustment.of(options);
    this.seedLo = options.seedLo;
    this.seedHi = options.seedHi;
    this.logprobs = options.logprobs;
    this.promptLogprobs = options.promptLogprobs;
    this.stopTokens = options.stopTokens;
    this.grammar = options.grammar;
    this.rules = options.rules === null ? null : new TokenRules(options.rules);
    this.priority = options.priority;
    this.parent = options.parent;
  }

  /** Tokens of the answer that are known. */
  get generated(): number {
    return this.length - this.promptLength;
  }

  /** Index in the answer of the next token to sample: the key of its random number. */
  get nextSample(): number {
    return this.length + this.pending - this.promptLength;
  }

  /** Tokens, known or in flight, whose KV no committed step writes yet. */
  get unscheduled(): number {
    return this.length + this.pending - this.scheduled;
  }

  /** Whether what it may sample depends on the token before, so that it cannot run a step ahead. */
  get waits(): boolean {
    return this.mirostat !== null || (this.rules?.waits ?? false) || (this.adjustment?.waits ?? false);
  }

  /** Whether `token` ends the sequence. */
  stopsAt(token: number): boolean {
    return this.stopTokens.includes(token);
  }

  /** Whether this runs before `other`: lower priority value first, then first come, first served. */
  before(other: Sequence): boolean {
    return this.priority < other.priority ||
      (this.priority === other.priority && this.arrival < other.arrival);
  }
}
