/**
 * Checks the rules of a request: `min_tokens`, `allowed_token_ids`, `bad_words`.
 *
 * @module
 */
import { InvalidRequestError } from "./errors.ts";
import { anyOf, clear, everyToken, has, type RuleOptions } from "./rules.ts";
import type { GenerateRequest } from "./types.ts";

/** What the rules are held against. */
export interface RuleLimits {
  vocab: number;
  eosTokenIds: readonly number[];
  /** Whether the engine has masks, by which rules reach the sampler. */
  masks: boolean;
  /** Tokens of a text, without any that a prompt would begin with. */
  encode: (text: string) => readonly number[];
}

/** Bad words of a request at most, and tokens of all of them. */
const MOST_BAD_WORDS = 1024;
const MOST_BAD_TOKENS = 8192;

/** Words on the ring that rules take at most, beside the mask of what is allowed. */
export const MOST_RULE_WORDS = 2 * MOST_BAD_TOKENS;

/**
 * The rules of a request whose answer has `maxTokens` tokens at most; null where it has none.
 *
 * @throws {InvalidRequestError} naming the field, the value found and the value wanted
 */
export function checkRules(
  request: GenerateRequest,
  maxTokens: number,
  limits: RuleLimits,
): RuleOptions | null {
  const { vocab } = limits;
  const minTokens = checkMinTokens(request, maxTokens);
  const ends = [...new Set([...limits.eosTokenIds, ...request.stopTokenIds ?? []])];
  const endTokens = ends.filter((token) => token < vocab);
  const { allowedTokenIds = null, badWords = [] } = request;
  // Without a token that ends answers there is none to keep from coming too early.
  const early = minTokens > 0 && endTokens.length > 0;
  if (!early && allowedTokenIds === null && badWords.length === 0) return null;
  const field = allowedTokenIds !== null
    ? "allowed_token_ids"
    : badWords.length > 0
    ? "bad_words"
    : "min_tokens";
  if (!limits.masks) {
    throw new InvalidRequestError(
      `${field} cannot be had: this engine was started without structured output`,
      field,
      "unsupported_parameter",
    );
  }
  const allowed = allowedTokenIds === null ? everyToken(vocab) : checkAllowed(allowedTokenIds, vocab);
  const sequences = badSequences(badWords, limits);
  for (const [token, more] of sequences) if (more === undefined) clear(allowed, token!);
  // One that has a token which cannot come cannot come itself, and nobody need wait for what precedes its last.
  const long = sequences.filter((tokens) =>
    tokens.length > 1 && tokens.every((token) => has(allowed, token))
  );
  if (!anyOf(allowed)) {
    const those = allowedTokenIds === null ? "" : " of allowed_token_ids";
    throw new InvalidRequestError(`bad_words leaves no token${those}, wanted at least one`, "bad_words");
  }
  if (early) {
    const goesOn = allowed.slice();
    for (const token of endTokens) clear(goesOn, token);
    if (!anyOf(goesOn)) {
      throw new InvalidRequestError(
        `min_tokens is ${minTokens}, but all tokens that ${field} leaves end the answer`,
        "min_tokens",
      );
    }
  }
  const restricts = allowedTokenIds !== null || sequences.some((tokens) => tokens.length === 1);
  return {
    vocab,
    allowed: restricts ? allowed : new Uint32Array(0),
    minTokens,
    endTokens: Int32Array.from(endTokens),
    badTokens: Int32Array.from(long.flat()),
    badLengths: Int32Array.from(long, (tokens) => tokens.length),
  };
}

function checkMinTokens({ minTokens = 0, maxTokens: wanted }: GenerateRequest, maxTokens: number): number {
  if (!Number.isInteger(minTokens) || minTokens < 0) {
    throw new InvalidRequestError(`min_tokens is ${minTokens}, wanted an integer, 0 or more`, "min_tokens");
  }
  if (minTokens <= maxTokens) return minTokens;
  const most = wanted !== undefined && wanted < minTokens
    ? `max_tokens, which is ${wanted}`
    : `${maxTokens}, which the context has left for the answer`;
  throw new InvalidRequestError(`min_tokens is ${minTokens}, wanted at most ${most}`, "min_tokens");
}

function checkAllowed(tokens: readonly number[], vocab: number): Uint32Array {
  const wanted = `wanted at least one integer from 0 to ${vocab - 1}`;
  if (tokens.length === 0) {
    throw new InvalidRequestError(`allowed_token_ids is empty, ${wanted}`, "allowed_token_ids");
  }
  const mask = new Uint32Array(Math.ceil(vocab / 32));
  for (const token of tokens) {
    if (!Number.isInteger(token) || token < 0 || token >= vocab) {
      throw new InvalidRequestError(
        `allowed_token_ids contains the token id ${token}, wanted integers from 0 to ${vocab - 1}`,
        "allowed_token_ids",
      );
    }
    mask[token >> 5]! |= 1 << (token & 31);
  }
  return mask;
}

/** As vLLM has it, a word is banned as the beginning of a text, and within one, where a space precedes it. */
function badSequences(words: readonly string[], { vocab, encode }: RuleLimits): (readonly number[])[] {
  if (words.length > MOST_BAD_WORDS) {
    throw new InvalidRequestError(
      `bad_words has ${words.length} texts, wanted at most ${MOST_BAD_WORDS}`,
      "bad_words",
    );
  }
  const sequences = new Map<string, readonly number[]>();
  let size = 0;
  for (const word of new Set(words)) {
    const bare = word.trimStart();
    const alone = encode(bare);
    if (alone.length === 0) {
      throw new InvalidRequestError(
        `bad_words contains ${JSON.stringify(word)}, wanted texts that are more than space`,
        "bad_words",
      );
    }
    for (const tokens of [alone, encode(` ${bare}`)]) {
      // What the model has no logit for cannot be sampled anyway.
      if (tokens.length === 0 || tokens.some((token) => token >= vocab)) continue;
      sequences.set(tokens.join(), tokens);
      size += tokens.length;
    }
    if (size > MOST_BAD_TOKENS) {
      throw new InvalidRequestError(
        `bad_words has more than ${MOST_BAD_TOKENS} tokens, wanted at most as many`,
        "bad_words",
      );
    }
  }
  return [...sequences.values()];
}
