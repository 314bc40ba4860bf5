/**
 * Checks a request against the model and fills in what it left open.
 *
 * @module
 */
import { InvalidRequestError } from "./errors.ts";
import type { Submission } from "./protocol.ts";
import type { GenerateRequest } from "./types.ts";

/** What a request is held against. */
export interface RequestLimits {
  maxContext: number;
  vocab: number;
  /** From the model's generation_config. */
  defaults: { temperature?: number; topK?: number; topP?: number; minP?: number };
  eosTokenIds: readonly number[];
}

/** A checked request: the part of its submissions that all choices share, and their seeds. */
export interface CheckedRequest {
  n: number;
  base: Omit<Submission, "id" | "parent" | "seedLo" | "seedHi">;
  seed(choice: number): { seedLo: number; seedHi: number };
}

const MAX_CHOICES = 128;
const MAX_LOGPROBS = 20;

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
  const base = {
    prompt: Int32Array.from(prompt),
    maxTokens,
    temperature: number("temperature", sampling.temperature ?? defaults.temperature ?? 1, 0, 100),
    topK: Math.min(limits.vocab, integer("top_k", sampling.topK ?? defaults.topK ?? 0, 0, 2 ** 31 - 1)),
    // The library takes float32 and wants more than 0.
    topP: Math.max(1e-30, number("top_p", sampling.topP ?? defaults.topP ?? 1, Number.MIN_VALUE, 1)),
    minP: number("min_p", sampling.minP ?? defaults.minP ?? 0, 0, 1),
    logprobs: optionalCount("logprobs", request.logprobs),
    promptLogprobs: optionalCount("prompt_logprobs", request.promptLogprobs),
    priority: integer("priority", request.priority ?? 0, -(2 ** 31), 2 ** 31 - 1),
    stopTokens: Int32Array.from(stopTokens),
  };
  return {
    n,
    base,
    seed: (choice) => {
      const value = (seed + choice) % 2 ** 53;
      return { seedLo: value % 2 ** 32, seedHi: Math.floor(value / 2 ** 32) };
    },
  };
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

function optionalCount(name: string, value: number | undefined): number {
  return value === undefined ? 0 : 1 + integer(name, value, 0, MAX_LOGPROBS);
}

function integer(name: string, value: number, low: number, high: number): number {
  if (Number.isInteger(value) && value >= low && value <= high) return value;
  throw new InvalidRequestError(`${name} is ${value}, wanted an integer from ${low} to ${high}`, name);
}

function number(name: string, value: number, low: number, high: number): number {
  if (value >= low && value <= high) return value;
  const from = low === Number.MIN_VALUE ? "more than 0" : `${low}`;
  throw new InvalidRequestError(`${name} is ${value}, wanted a number from ${from} to ${high}`, name);
}

function randomSeed(): number {
  const words = crypto.getRandomValues(new Uint32Array(2));
  return (words[0]! & 0x1fffff) * 2 ** 32 + words[1]!;
}
