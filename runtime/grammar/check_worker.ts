/**
 * Reads grammars before the grammar worker gets them: one that the library aborts over ends this worker, which
 * holds nothing, instead of the one that holds everybody's matchers.
 *
 * @module
 */
/// <reference lib="deno.worker" />
import { readGrammar, reasonOf, startLibrary } from "./xgrammar.ts";

/** A message to the worker. */
export interface CheckRequest {
  id: number;
  text: string;
}

/**
 * Its answers: that the library is there and reading begins, then null when the grammar is one. After any other answer
 * the worker is of no more use.
 */
export type CheckReply = "begun" | { id: number; refused: string | null };

const started = startLibrary();

self.onmessage = async ({ data: { id, text } }: MessageEvent<CheckRequest>) => {
  let refused: string | null = null;
  try {
    await started;
    self.postMessage("begun" satisfies CheckReply);
    await readGrammar(text);
  } catch (error) {
    refused = reasonOf(error);
  }
  self.postMessage({ id, refused } satisfies CheckReply);
};
