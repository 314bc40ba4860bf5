/**
 * Log probabilities in OpenAI's two dialects.
 *
 * @module
 */

import type { TokenLogprob } from "../runtime/types.ts";

/** What stands for minus infinity, which JSON cannot say. */
const LEAST = -9999;

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

/** The chat dialect's entries for tokens. */
export function chatLogprobs(tokens: readonly TokenLogprob[]): ChatLogprob[] {
  return tokens.map((entry) => ({ ...chatToken(entry), top_logprobs: entry.top.map(chatToken) }));
}

function chatToken({ bytes, logprob }: { bytes: Uint8Array; logprob: number }) {
  return { token: tokenText(bytes), logprob: finite(logprob), bytes: Array.from(bytes) };
}

/** Writes a choice's tokens in the completions dialect and counts where each one starts. */
export class CompletionLogprobWriter {
  /** Code points whose first byte has been seen. */
  #characters = 0;

  /** Entries for the tokens that follow those of the last call. */
  write(tokens: readonly (TokenLogprob | { bytes: Uint8Array; logprob: null })[]): CompletionLogprobs {
    const out: CompletionLogprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
    for (const entry of tokens) {
      const text = tokenText(entry.bytes);
      out.tokens.push(text);
      out.text_offset.push(this.#advance(entry.bytes));
      if (entry.logprob === null) {
        out.token_logprobs.push(null);
        out.top_logprobs.push(null);
        continue;
      }
      const best = entry.top.map(({ bytes, logprob }) => [tokenText(bytes), finite(logprob)] as const);
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
