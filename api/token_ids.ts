/**
 * `return_token_ids`, as vLLM has it: the ids of the prompt and of each choice, beside the text.
 *
 * @module
 */

import { eventTail } from "./chunks.ts";
import type { GenerateChunk } from "../runtime/types.ts";

/** Adds ids to one choice's events, which {@link ChunkWriter}s have written. */
export class TokenIdsWriter {
  readonly #tail: string;
  readonly #inChoice: boolean;
  #prompt: readonly number[] | null;
  /** Of tokens whose text is not decided yet, and so is in no event. */
  #waiting: number[] = [];

  /** `inChoice`: whether the prompt's ids are the choice's, as in a completion, or the event's, as in a chat. */
  constructor(
    prompt: readonly number[],
    { inChoice, includeUsage }: { inChoice: boolean; includeUsage: boolean },
  ) {
    this.#prompt = prompt;
    this.#inChoice = inChoice;
    this.#tail = eventTail(includeUsage);
  }

  /** The same events: the first of all has the prompt's ids, the last of these those of its tokens. */
  add(events: string, { tokenIds }: GenerateChunk): string {
    this.#waiting.push(...tokenIds);
    if (events === "") return "";
    const ids = this.#waiting;
    this.#waiting = [];
    const last = events.lastIndexOf("data: ");
    const out = events.slice(0, last) + this.#insert(events.slice(last), "token_ids", ids, true);
    const prompt = this.#prompt;
    if (prompt === null) return out;
    this.#prompt = null;
    const end = out.indexOf("\n\n") + 2;
    return this.#insert(out.slice(0, end), "prompt_token_ids", prompt, this.#inChoice) + out.slice(end);
  }

  #insert(event: string, name: string, ids: readonly number[], inChoice: boolean): string {
    // The choice is the last but what the tail has.
    const end = inChoice ? this.#tail : "}\n\n";
    return `${event.slice(0, -end.length)},"${name}":[${ids.join(",")}]${end}`;
  }
}
