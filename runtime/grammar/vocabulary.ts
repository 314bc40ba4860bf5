/**
 * What each token adds to a text, as the grammar worker gets it.
 *
 * @module
 */
import type { ModelTokenizer } from "../model/tokenizer.ts";

/** Bytes of all tokens: those of token i are bytes[offsets[i] .. offsets[i + 1]]. */
export interface Vocabulary {
  bytes: Uint8Array<SharedArrayBuffer>;
  /** [vocab + 1] */
  offsets: Uint32Array<SharedArrayBuffer>;
  /** Ids of special tokens that are marks within a turn: text for some constraints, no text for the others. */
  marks: readonly number[];
  /** What ends a text. */
  stopTokens: readonly number[];
}

/** Marks of calls and thoughts, which some tokenizers have among their special tokens. */
const MARKS = new Set([
  ...["<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>"],
  ...["<think>", "</think>", "[THINK]", "[/THINK]"],
]);

/** Tokens between two breaths, so that a large vocabulary does not hold up the server. */
const SLICE = 4096;

/** Whether a grammar's text speaks of a mark. */
export function hasMarks(grammar: string): boolean {
  for (const mark of MARKS) if (grammar.includes(mark)) return true;
  return false;
}

/** The vocabulary of a model with `vocab` ids. Special tokens are no text. */
export async function loadVocabulary(
  tokenizer: ModelTokenizer,
  vocab: number,
  stopTokens: readonly number[],
): Promise<Vocabulary> {
  const tokens: Uint8Array[] = [];
  const marks: number[] = [];
  const decoder = new TextDecoder();
  let size = 0;
  for (let id = 0; id < vocab; id++) {
    if (id % SLICE === SLICE - 1) await new Promise((resolve) => setTimeout(resolve, 0));
    let bytes = tokenizer.tokenBytes(id);
    if (tokenizer.isSpecial(id)) {
      if (MARKS.has(decoder.decode(bytes))) marks.push(id);
      else bytes = new Uint8Array(0);
    }
    tokens.push(bytes);
    size += bytes.length;
  }
  const bytes = new Uint8Array(new SharedArrayBuffer(size));
  const offsets = new Uint32Array(new SharedArrayBuffer((vocab + 1) * 4));
  let at = 0;
  for (let id = 0; id < vocab; id++) {
    bytes.set(tokens[id]!, at);
    at += tokens[id]!.length;
    offsets[id + 1] = at;
  }
  return { bytes, offsets, marks, stopTokens };
}
