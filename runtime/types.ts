/**
 * What a caller of the engine says and hears. No other module's types leak into these.
 *
 * @module
 */
import type { EngineLive } from "./live.ts";
import type { LoopMetrics } from "./telemetry/loop_metrics.ts";
import type { GenerationTiming, RequestMetrics } from "./telemetry/request_metrics.ts";

/** How the KV cache is placed: see docs/architecture.md. */
export type KvMode = "kv-rm" | "static" | "static-padded" | "paged";

/**
 * What becomes of the KV of old tokens: it stays, becomes summary rows, or (a plain sliding window, to compare with)
 * is forgotten. See docs/far-history.md.
 */
export type FarHistoryMode = "off" | "summaries" | "window";

/** Storage type of the KV cache. */
export type KvDtype = "f32" | "f16" | "bf16" | "fp8" | "q8";

/**
 * How tokens are drawn. Logits are changed by the repetition, frequency and presence penalties and the
 * biases, in this order; filters then apply in the order top-n-sigma, top-k, typical, top-p, min-p, XTC, dynamic
 * temperature. Top-p and min-p look at the distribution at `temperature`, llama.cpp's samplers at that at 1.
 */
export interface SamplingParams {
  /** 0 is greedy. Default: the model's generation_config, else 1. */
  temperature?: number;
  /** Keep the k most probable tokens; 0 is off. */
  topK?: number;
  /** Keep the smallest set of tokens with at least this probability, in (0, 1]; 1 is off. */
  topP?: number;
  /** Drop tokens below this share of the most probable one's probability, in [0, 1]; 0 is off. */
  minP?: number;
  /** Keep logits of at least the highest less so many of their standard deviations, up to 1000; 0 or less is off. */
  topNSigma?: number;
  /**
   * Keep the fewest tokens whose surprise lies nearest to the entropy and that have more than this probability
   * together, in [0, 1]; 1 is off.
   */
  typicalP?: number;
  /** In this share of the draws take out all but the last of the tokens that reach `xtcThreshold`; 0 is off. */
  xtcProbability?: number;
  /** In [0, 1]; more than 0.5 is off. Default 0.1. */
  xtcThreshold?: number;
  /** The temperature becomes one within so much of `temperature`, by the entropy, in [0, 100]; 0 is off. */
  dynatempRange?: number;
  /** Power of the entropy's share of the greatest possible, in [0, 100]. Default 1. */
  dynatempExponent?: number;
  /**
   * Mirostat's version, which keeps the tokens' surprise near `mirostatTau`; 0 is off. With it, of all that changes the
   * distribution, only temperature and biases act.
   */
  mirostat?: 0 | 1 | 2;
  /** In bits, in [0, 100]. Default 5. */
  mirostatTau?: number;
  /** How much of its error each token corrects, in [0, 10]. Default 0.1. */
  mirostatEta?: number;
  /** Subtracted from the logit of every token that the answer has, in [-2, 2]; 0 is off. */
  presencePenalty?: number;
  /** Subtracted from a token's logit once for each time that the answer has it, in [-2, 2]; 0 is off. */
  frequencyPenalty?: number;
  /**
   * Divides the positive logits of tokens that prompt or answer have, and multiplies the negative ones, in
   * (0, 10]; 1 is off.
   */
  repetitionPenalty?: number;
  /**
   * The three penalties look at so many tokens alone, the last ones of prompt and answer, which count alike; up to
   * 1,024. Default 0: at all, as each of them says.
   */
  penaltyLastN?: number;
  /**
   * Pairs of a token id, or of a text whose tokens are meant, and what is added to the logit, in [-100, 100], or
   * -Infinity for never; at most 1,024 tokens. Several of one token add up.
   */
  logitBias?: readonly (readonly [token: number | string, bias: number])[];
  /** DRY: the penalty of a token that prolongs a repetition of `dryAllowedLength` tokens, in [0, 100]; 0 is off. */
  dryMultiplier?: number;
  /** What it is multiplied with for each token more, up to 100; less than 1 is the default. Default 1.75. */
  dryBase?: number;
  /** Tokens that may come again, 0 or more. Default 2. */
  dryAllowedLength?: number;
  /** Tokens of prompt and answer that are looked back on; 0 is off, -1 all. Default -1. */
  dryPenaltyLastN?: number;
  /** Texts that no repetition goes beyond, at most 64. Default: a line break, `:`, `"` and `*`. */
  drySequenceBreakers?: readonly string[];
  /** Same seed, prompt and parameters: same tokens. Default: a random one. An integer, 0 to 2^53 - 1. */
  seed?: number;
}

/** One turn of a conversation. */
export interface ChatMessage {
  /** Such as system, user, assistant; what the chat template knows. */
  role: string;
  /** What was said. */
  content: string;
  /** Whatever else the chat template reads. */
  [key: string]: unknown;
}

/** How a conversation becomes a prompt. */
export interface ChatOptions {
  /** Functions that the model may call, in OpenAI's form. Default: none. */
  tools?: readonly unknown[];
  /** End with the beginning of the assistant's turn. Default true. */
  addGenerationPrompt?: boolean;
  /** End within the last message, for the model to go on from. Default false. */
  continueFinalMessage?: boolean;
  /** Further variables of the chat template, such as `enable_thinking`. */
  variables?: Readonly<Record<string, unknown>>;
}

/**
 * What the text of an answer has to be: the sampler is left only those tokens with which it still can become so.
 * The answer ends when it is whole, unless its length ends it before.
 */
export type Constraint =
  /** A JSON object. */
  | { type: "json" }
  /** JSON that is valid under a schema. What cannot be held to is refused, and never passed over. */
  | { type: "jsonSchema"; schema: unknown }
  /** A text that a regular expression matches as a whole. */
  | { type: "regex"; pattern: string }
  /** One of these texts. */
  | { type: "choice"; choices: readonly string[] }
  /** A grammar in XGrammar's EBNF (that of the GBNF family), whose first rule is `root`. */
  | { type: "grammar"; ebnf: string }
  /** Exactly this text. */
  | { type: "literal"; text: string }
  /** One after another. */
  | { type: "sequence"; parts: readonly Constraint[] }
  /** One of them. */
  | { type: "either"; options: readonly Constraint[] }
  /** The same again and again; `least` is 0 by default, `most` without end. */
  | { type: "repeat"; part: Constraint; least?: number; most?: number }
  /** Any text up to this one, which is part of it. */
  | { type: "until"; text: string }
  /** Any text; where it has a trigger, that one's constraint follows. */
  | { type: "dispatch"; tags: readonly { trigger: string; then: Constraint }[] };

/** A request. Give `prompt` or `messages`. */
export interface GenerateRequest {
  /** Text (encoded with the model's special tokens, such as BOS) or token ids (taken as they are). */
  prompt?: string | readonly number[];
  /** A conversation, rendered through the model's chat template. */
  messages?: readonly ChatMessage[];
  /** How `messages` are rendered. */
  chat?: ChatOptions;
  /** How tokens are drawn. */
  sampling?: SamplingParams;
  /** Tokens to generate at most, per choice. Default: what the context has left. 0: only the prompt. */
  maxTokens?: number;
  /** Text that ends a choice; it is not part of the output. */
  stop?: readonly string[];
  /** Further token ids that end a choice, beside the model's own. */
  stopTokenIds?: readonly number[];
  /** Go on after the model's end-of-sequence tokens. Default false. */
  ignoreEos?: boolean;
  /** Leave special tokens, such as markers of turns, out of the text. Default true. */
  skipSpecialTokens?: boolean;
  /**
   * Tokens of each choice, at most `maxTokens`, before which none that ends it can be sampled; a text of `stop` that
   * ends within them does not end it. A choice that is whole by its `constraint` ends all the same. Default 0.
   */
  minTokens?: number;
  /** The token ids that may be sampled, at least one. Default: all. */
  allowedTokenIds?: readonly number[];
  /**
   * Texts that are kept out of the answer, at most 1,024: the last token of each cannot be sampled where the answer
   * ends with the others. As the tokenizer writes them alone, and after a space; a text that comes about by other
   * tokens is not one of them.
   */
  badWords?: readonly string[];
  /** What the answer's text has to be. Default: anything. */
  constraint?: Constraint;
  /** The caller's name of the field that `constraint` comes from, for errors. Default "constraint". */
  constraintParam?: string;
  /** Choices for the prompt, 1 to 128. Default 1. Choice i samples with seed + i. */
  n?: number;
  /**
   * Search for the `n` most probable answers, with as many beams, at most 10, instead of sampling; best first. They
   * come whole, when all are found. A beam's score is the sum of its log probabilities, by the number of tokens of
   * prompt and answer to the power of `lengthPenalty`, -10 to 10, default 1. Default: sample.
   */
  beamSearch?: { lengthPenalty?: number };
  /** Report each token's log probability and this many alternatives, 0 to 20. Default: none at all. */
  logprobs?: number;
  /** The same for the tokens of the prompt. */
  promptLogprobs?: number;
  /** Say the rank of each of those, too. Default false. */
  promptRanks?: boolean;
  /** Lower runs first; equal ones first come, first served. Default 0. */
  priority?: number;
  /** Ends the request; what was generated so far stays valid. */
  signal?: AbortSignal;
}

/** A token, its natural log probability under the unfiltered distribution, and its best rivals. */
export interface TokenLogprob {
  /** Its id. */
  token: number;
  /** The token's own bytes; concatenated over tokens they are the text's UTF-8. */
  bytes: Uint8Array;
  /** Natural logarithm of its probability before temperature and filters. */
  logprob: number;
  /** Of a prompt's token, where ranks were asked for: 1 for the most probable, null beyond the 20th. */
  rank?: number | null;
  /** The most probable tokens, best first. */
  top: readonly { token: number; bytes: Uint8Array; logprob: number }[];
}

/** Why a choice ended: an EOS or stop string, its length, or the caller. */
export type FinishReason = "stop" | "length" | "cancelled";

/** Token counts of a request. */
export interface Usage {
  /** Tokens of the prompt. */
  promptTokens: number;
  /** Prompt tokens whose KV was found in the prefix cache. */
  cachedTokens: number;
  /** Tokens generated, over all choices. */
  completionTokens: number;
}

/** A piece of the answer. Chunks of different choices interleave. */
export interface GenerateChunk {
  /** Which choice, 0 to n - 1. */
  index: number;
  /** New text; whole characters only. May be empty while a character or stop string is undecided. */
  text: string;
  /** Tokens that became known with this chunk, in order. */
  tokenIds: readonly number[];
  /** One for each of `tokenIds` when `logprobs` was asked for. */
  logprobs?: readonly TokenLogprob[];
  /** Set in the last chunk of a choice. */
  finishReason: FinishReason | null;
  /** The stop string or token id that ended the choice, when one did. */
  stopReason?: string | number;
}

/** One request in flight: iterate it for chunks. Leaving the loop early cancels the request. */
export interface Generation extends AsyncIterable<GenerateChunk> {
  /** The encoded prompt. */
  readonly promptTokenIds: readonly number[];
  /**
   * Resolves once the request is queued, before the first chunk. Rejects with an {@link InvalidRequestError}, as
   * iterating then does, when the grammar engine refuses the constraint: that takes longer than the call.
   */
  readonly accepted?: Promise<void>;
  /** Resolves before the first chunk: one entry per prompt token (null for the first) if asked for. */
  readonly promptLogprobs: Promise<readonly (TokenLogprob | null)[] | null>;
  /** Counts so far; final once iteration ends. completionTokens is over all choices. */
  readonly usage: Usage;
  /** When it was queued, ran and ended. */
  readonly timing: GenerationTiming;
  /** Ends the request now. With a reason, whoever iterates has it thrown; without, the choices end as cancelled. */
  cancel(reason?: Error): void;
}

/** What is served. */
export interface ModelInfo {
  /** The name that clients use. */
  id: string;
  /** Unix seconds of loading. */
  created: number;
  /** As config.json names it. */
  architecture: string;
  /** Weights' storage type. */
  dtype: string;
  /** How many. */
  parameters: number;
  /** Ids that the model knows. */
  vocabSize: number;
  /** Tokens of prompt and answer together. */
  maxContext: number;
  /** Whether `messages` can be rendered. */
  hasChatTemplate: boolean;
  /** The chat template's text; several, one after another, where the model has more. "" without one. */
  chatTemplate: string;
}

/** A snapshot of the engine's state and counters. */
export interface EngineStats {
  /** Sequences in slots. */
  running: number;
  /** Sequences in the queue. */
  waiting: number;
  /** Slots in all. */
  slots: number;
  /** KV blocks: in use, kept for reuse, free. */
  blocks: { total: number; active: number; cached: number; free: number };
  /** Steps committed. */
  steps: number;
  /** Tokens sampled. */
  generatedTokens: number;
  /** Prompt tokens computed. */
  promptTokens: number;
  /** Prompt tokens found in the prefix cache. */
  cachedTokens: number;
  /** Sequences sent back to the queue for lack of blocks. */
  preemptions: number;
  /** Milliseconds since the engine loop last turned. */
  heartbeatAgeMs: number;
}

/** What an engine measures. */
export interface EngineTelemetry {
  /** Over all requests. */
  readonly requests: RequestMetrics;
  /** Of the loop; filled by its thread. */
  readonly loop: LoopMetrics;
  /** Rows of the prompt in each shape of a step, in the order of `loop.step`; 0 for decoding alone. */
  readonly shapes: readonly number[];
  /** Bytes of a KV block. */
  readonly blockBytes: number;
}

/** An engine: one model on one backend. */
export interface Engine extends AsyncDisposable {
  /** What is served. */
  readonly model: ModelInfo;
  /** Backend and SIMD target or device, e.g. "cpu/AVX3_SPR". */
  readonly backend: string;
  /** Why this backend, as a clause: "no GPU is there". */
  readonly backendReason: string;
  /** What broke the engine for good, once something has. */
  readonly failure: Error | null;
  /** Resolves with {@link Engine.failure} when the engine breaks; an engine that does not leaves it pending. */
  readonly failed: Promise<Error>;
  /** How the KV cache is placed. */
  readonly kvMode: KvMode;
  /** Sequences that run at once. */
  readonly slots: number;
  /** Tokens per KV block. */
  readonly blockTokens: number;
  /** KV memory in bytes. */
  readonly kvBytes: number;
  /**
   * Starts a request.
   *
   * @throws {InvalidRequestError} on the call, not in the loop, when the request can never run, for
   * example a prompt longer than the context
   * @throws {EngineError} when the queue is full or the engine is closed or has failed
   */
  generate(request: GenerateRequest): Generation;
  /** Encodes text. addSpecialTokens: as the model wants a prompt to start (BOS). Default true. */
  encode(text: string, options?: { addSpecialTokens?: boolean }): number[];
  /** Decodes ids. Default: special tokens are left out. */
  decode(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string;
  /** Renders messages through the chat template. Encode the result with addSpecialTokens false. */
  renderChat(messages: readonly ChatMessage[], options?: ChatOptions): string;
  /** Bytes of one token. */
  tokenBytes(id: number): Uint8Array;
  /** State and counters, as of the loop's last turn. */
  stats(): EngineStats;
  /**
   * Histograms and counters since the start, for the server's /metrics.
   *
   * @ignore not part of the library's face: it changes with what is measured
   */
  readonly telemetry: EngineTelemetry;
  /** Blocks, slots and steps for who wants to watch; null or absent where they cannot be seen. */
  readonly live?: EngineLive | null;
  /** Ends all requests as cancelled and frees everything. */
  close(): Promise<void>;
}
