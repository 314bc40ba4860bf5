/**
 * Log probabilities in OpenAI's two dialects.
 *
 * @module
 */

import type { TokenLogprob } from "../runtime/types.ts";

/** What stands for minus infinity, which JSON cannot say. */
const LEAST = -9999;

/** A token of a prompt: the first has no probability. */
export type PromptLogprob = TokenLogprob | { token: number; bytes: Uint8Array; logprob: null };

/** vLLM's entry for one token, or a rival of it, among `prompt_logprobs`. */
export interface RankedLogprob {
  logprob: number;
  /** 1 for the most probable; null beyond the 20th. */
  rank: number | null;
  decoded_token: string;
}

/** The chat dialect's entry for one token. */
export interface ChatLogprob {
  token: string;
  logprob: number;
  /** The token's UTF-8; tokens can end within a character. */
  bytes: number[];
  top_logprobs: { token: string; logprob: number; bytes: number[] }[];
}

/** The completions dialect: arrays with one entry per token; null stands before the first of a prompt. */
export interface CompletionLogprobs {
  tokens: string[];
  token_logprobs: (number | null)[];
  top_logprobs: (Record<string, number> | null)[];
  /** Where each token starts in the choice's `text`, in Unicode code points. */
  text_offset: number[];
}

/** The chat dialect's entries for tokens. `namesIds`: each token is named by its id, as `token_id:5`. */
export function chatLogprobs(tokens: readonly TokenLogprob[], namesIds = false): ChatLogprob[] {
  const named = ({ token, bytes, logprob }: NamedToken & { logprob: number }) => ({
    token: tokenName({ token, bytes }, namesIds),
    logprob: finite(logprob),
    bytes: Array.from(bytes),
  });
  return tokens.map((entry) => ({ ...named(entry), top_logprobs: entry.top.map(named) }));
}

/**
 * `prompt_logprobs` as vLLM has them: by token id, the token's own and those of its `count` best rivals; null for the
 * first, and for all where none were asked for.
 */
export function promptLogprobs(
  tokens: readonly (TokenLogprob | null)[] | null,
  count: number,
): (Record<string, RankedLogprob> | null)[] | null {
  return tokens?.map((entry) => entry && rankedLogprobs(entry, count)) ?? null;
}

function rankedLogprobs(
  { rank = null, top, ...own }: TokenLogprob,
  count: number,
): Record<string, RankedLogprob> {
  const ranked = ({ bytes, logprob }: { bytes: Uint8Array; logprob: number }, rank: number | null) => ({
    logprob: finite(logprob),
    rank,
    decoded_token: tokenText(bytes),
  });
  const best = top.slice(0, count).map((rival, i) => [rival.token, ranked(rival, i + 1)] as const);
  return { [own.token]: ranked(own, rank), ...Object.fromEntries(best) };
}

interface NamedToken {
  token: number;
  bytes: Uint8Array;
}

function tokenName({ token, bytes }: NamedToken, byId: boolean): string {
  return byId ? `token_id:${token}` : tokenText(bytes);
}

/** Writes a choice's tokens in the completions dialect and counts where each one starts. */
export class CompletionLogprobWriter {
  /** Code points whose first byte has been seen. */
  #characters = 0;
  readonly #namesIds: boolean;

  /** `namesIds`: each token is named by its id, as `token_id:5`. */
  constructor(namesIds = false) {
    this.#namesIds = namesIds;
  }

  /** Entries for the tokens that follow those of the last call. */
  write(tokens: readonly PromptLogprob[]): CompletionLogprobs {
    const out: CompletionLogprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
    for (const entry of tokens) {
      const text = tokenName(entry, this.#namesIds);
      out.tokens.push(text);
      out.text_offset.push(this.#advance(entry.bytes));
      if (entry.logprob === null) {
        out.token_logprobs.push(null);
        out.top_logprobs.push(null);
        continue;
      }
      const best = entry.top.map((rival) =>
        [tokenName(rival, this.#namesIds), finite(rival.logprob)] as const
      );
      // As OpenAI does, the chosen token is always among its rivals.
      out.token_logprobs.push(finite(entry.logprob));
      out.top_logprobs.push({ ...Object.fromEntries(best), [text]: finite(entry.logprob) });
    }
    return out;
  }

  #advance(bytes: Uint8Array): number {
    const within = bytes.length > 0 && continues(bytes[0]!) ? 1 : 0;
    const start = Math.max(0, this.#characters - within);
    for (const byte of bytes) if (!continues(byte)) this.#characters++;
    return start;
  }
}

function continues(byte: number): boolean {
  return (byte & 0xc0) === 0x80;
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A token as text; one that is not whole characters as OpenAI writes it: `bytes:\xe2\x96`. */
export function tokenText(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    return "bytes:" + Array.from(bytes, (byte) => "\\x" + byte.toString(16).padStart(2, "0")).join("");
  }
}

function finite(logprob: number): number {
  return Math.max(logprob, LEAST);
}
