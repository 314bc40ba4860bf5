/**
 * Checks a request against the model and fills in what it left open.
 *
 * @module
 */
import { KVRM } from "../ffi/mod.ts";
import { MOST_WINDOW } from "./adjustment.ts";
import { integer, number } from "./checks.ts";
import { checkDry, type DryLimits } from "./dry_check.ts";
import { InvalidRequestError } from "./errors.ts";
import { checkMirostat } from "./mirostat.ts";
import type { Submission } from "./protocol.ts";
import { checkRules, type RuleLimits } from "./rule_check.ts";
import { checkSamplers } from "./samplers.ts";
import type { GenerateRequest } from "./types.ts";

/** What a request is held against. */
export interface RequestLimits extends RuleLimits, DryLimits {
  /** From the model's generation_config. */
  defaults: { temperature?: number; topK?: number; topP?: number; minP?: number };
}

/** A checked request: the part of its submissions that all choices share, and their seeds. */
export interface CheckedRequest {
  n: number;
  base: Omit<Submission, "id" | "parent" | "seedLo" | "seedHi">;
  seed(choice: number): { seedLo: number; seedHi: number };
}

const MAX_CHOICES = 128;

/** What a request with mirostat has of what else would change its distribution. */
const ALONE = {
  topK: 0,
  topP: 1,
  minP: 0,
  samplers: null,
  dry: null,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
} as const;

/**
 * Checks `request`, whose prompt is encoded as `prompt`.
 *
 * @throws {InvalidRequestError} naming the field, the value found and the value wanted
 */
export function checkRequest(
  request: GenerateRequest,
  prompt: readonly number[],
  limits: RequestLimits,
): CheckedRequest {
  const sampling = request.sampling ?? {};
  const defaults = limits.defaults;
  const n = integer("n", request.n ?? 1, 1, MAX_CHOICES);
  const maxTokens = checkLength(request, prompt, limits);
  const stopTokens = [...(request.ignoreEos ? [] : limits.eosTokenIds), ...(request.stopTokenIds ?? [])];
  const seed = sampling.seed === undefined
    ? randomSeed()
    : integer("seed", sampling.seed, 0, Number.MAX_SAFE_INTEGER);
  const mirostat = checkMirostat(sampling);
  const base = {
    prompt: Int32Array.from(prompt),
    maxTokens,
    temperature: number("temperature", sampling.temperature ?? defaults.temperature ?? 1, 0, 100),
    topK: Math.min(limits.vocab, integer("top_k", sampling.topK ?? defaults.topK ?? 0, 0, 2 ** 31 - 1)),
    // The library takes float32 and wants more than 0.
    topP: Math.max(1e-30, number("top_p", sampling.topP ?? defaults.topP ?? 1, Number.MIN_VALUE, 1)),
    minP: number("min_p", sampling.minP ?? defaults.minP ?? 0, 0, 1),
    presencePenalty: number("presence_penalty", sampling.presencePenalty ?? 0, -2, 2),
    frequencyPenalty: number("frequency_penalty", sampling.frequencyPenalty ?? 0, -2, 2),
    repetitionPenalty: Math.max(
      1e-30,
      number("repetition_penalty", sampling.repetitionPenalty ?? 1, Number.MIN_VALUE, 10),
    ),
    samplers: checkSamplers(sampling),
    penaltyLastN: integer("repeat_last_n", sampling.penaltyLastN ?? 0, 0, MOST_WINDOW),
    mirostat,
    dry: checkDry(sampling, limits),
    ...checkBias(sampling.logitBias ?? [], limits),
    logprobs: optionalCount("logprobs", request.logprobs),
    promptLogprobs: promptLogprobs(request),
    priority: integer("priority", request.priority ?? 0, -(2 ** 31), 2 ** 31 - 1),
    stopTokens: Int32Array.from(stopTokens),
    grammar: 0,
    rules: checkRules(request, maxTokens, limits),
  };
  // As in llama.cpp: beside mirostat only the temperature, biases and what rules tokens out act.
  const alone = mirostat !== null && base.temperature > 0;
  return {
    n,
    base: alone ? { ...base, ...ALONE } : { ...base, mirostat: null },
    seed: (choice) => {
      const value = (seed + choice) % 2 ** 53;
      return { seedLo: value % 2 ** 32, seedHi: Math.floor(value / 2 ** 32) };
    },
  };
}

/** The tokens of ids and texts; where one has several biases, they add up. */
function checkBias(
  pairs: readonly (readonly [number | string, number])[],
  { vocab, encode }: RequestLimits,
): { biasTokens: Int32Array; biasValues: Float32Array } {
  const sums = new Map<number, number>();
  for (const [what, bias] of pairs) {
    if (bias !== -Infinity) number(`logit_bias of ${biased(what)}`, bias, -100, 100, "logit_bias");
    if (typeof what === "number" && (!Number.isInteger(what) || what < 0 || what >= vocab)) {
      throw new InvalidRequestError(
        `logit_bias contains the token id ${what}, wanted integers from 0 to ${vocab - 1}`,
        "logit_bias",
      );
    }
    for (const token of typeof what === "number" ? [what] : encode(what)) {
      // What the model has no logit for cannot be sampled anyway.
      if (token < vocab) sums.set(token, (sums.get(token) ?? 0) + bias);
    }
  }
  if (sums.size > KVRM.MAX_BIASES) {
    throw new InvalidRequestError(
      `logit_bias has ${sums.size} tokens, wanted at most ${KVRM.MAX_BIASES}`,
      "logit_bias",
    );
  }
  return { biasTokens: Int32Array.from(sums.keys()), biasValues: Float32Array.from(sums.values()) };
}

function biased(what: number | string): string {
  return typeof what === "number" ? `token ${what}` : JSON.stringify(what);
}

function checkLength(request: GenerateRequest, prompt: readonly number[], limits: RequestLimits): number {
  if (prompt.length === 0) {
    throw new InvalidRequestError("prompt is empty, wanted at least one token", "prompt");
  }
  for (const token of prompt) {
    if (!Number.isInteger(token) || token < 0 || token >= limits.vocab) {
      throw new InvalidRequestError(
        `prompt contains the token id ${token}, wanted integers from 0 to ${limits.vocab - 1}`,
        "prompt",
      );
    }
  }
  const wanted = integer("max_tokens", request.maxTokens ?? limits.maxContext, 0, 2 ** 31 - 1);
  const room = limits.maxContext - prompt.length;
  if (room < Math.min(wanted, 1)) {
    throw new InvalidRequestError(
      `the prompt has ${prompt.length} tokens, but the context holds ${limits.maxContext}, the answer included`,
      "prompt",
      "context_length_exceeded",
    );
  }
  return Math.min(wanted, room);
}

/** A token's rank is its place among the best, so that ranks take as many of these as there can be. */
function promptLogprobs({ promptLogprobs, promptRanks = false }: GenerateRequest): number {
  const asked = optionalCount("prompt_logprobs", promptLogprobs);
  return asked > 0 && promptRanks ? 1 + KVRM.MAX_TOP_LOGPROBS : asked;
}

function optionalCount(name: string, value: number | undefined): number {
  return value === undefined ? 0 : 1 + integer(name, value, 0, KVRM.MAX_TOP_LOGPROBS);
}

function randomSeed(): number {
  const words = crypto.getRandomValues(new Uint32Array(2));
  return (words[0]! & 0x1fffff) * 2 ** 32 + words[1]!;
}
