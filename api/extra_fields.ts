/**
 * What vLLM has in a stream's events beside the text: `return_token_ids`, the ids of the prompt and of each choice, and
 * `prompt_logprobs`.
 *
 * @module
 */

import type { GenerateChunk, Generation } from "../runtime/types.ts";
import { eventTail } from "./chunks.ts";
import { promptLogprobs } from "./logprobs.ts";

/** Which fields events have beside their own. */
export interface ExtraFields {
  /** Where those about the prompt are: each choice's, as in a completion, or the event's, as in a chat. */
  prompt: "choice" | "event";
  /** The ids of the prompt's tokens and of each choice's. Default false. */
  tokenIds?: boolean;
  /** The log probabilities of the prompt's tokens, with so many rivals of each. Default: none at all. */
  promptLogprobs?: number;
}

/** What the events say of the prompt: JSON by field. Resolves once it is known. */
export async function promptFields(
  generation: Generation,
  fields: ExtraFields,
): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  if (fields.tokenIds) found.set("prompt_token_ids", JSON.stringify(generation.promptTokenIds));
  if (fields.promptLogprobs !== undefined) {
    const scored = promptLogprobs(await generation.promptLogprobs, fields.promptLogprobs);
    found.set("prompt_logprobs", JSON.stringify(scored));
  }
  return found;
}

/** Adds the fields to one choice's events, which {@link ChunkWriter}s have written. */
export class ExtraFieldsWriter {
  readonly #tail: string;
  readonly #fields: ExtraFields;
  #prompt: ReadonlyMap<string, string> | null;
  /** Of tokens whose text is not decided yet, and so is in no event. */
  #waiting: number[] = [];

  /** `prompt`: what {@link promptFields} gives. */
  constructor(prompt: ReadonlyMap<string, string>, fields: ExtraFields, includeUsage: boolean) {
    this.#prompt = prompt;
    this.#fields = fields;
    this.#tail = eventTail(includeUsage);
  }

  /** The same events: the first of all has the prompt's fields, the last of these the ids of its tokens. */
  add(events: string, { tokenIds }: GenerateChunk): string {
    if (this.#fields.tokenIds) this.#waiting.push(...tokenIds);
    if (events === "") return "";
    let out = events;
    if (this.#fields.tokenIds) {
      const last = events.lastIndexOf("data: ");
      const ids = JSON.stringify(this.#waiting);
      this.#waiting = [];
      out = events.slice(0, last) + this.#insert(events.slice(last), "token_ids", ids, true);
    }
    const prompt = this.#prompt;
    if (prompt === null) return out;
    this.#prompt = null;
    const end = out.indexOf("\n\n") + 2;
    let first = out.slice(0, end);
    for (const [name, json] of prompt) {
      first = this.#insert(first, name, json, this.#fields.prompt === "choice");
    }
    return first + out.slice(end);
  }

  #insert(event: string, name: string, json: string, inChoice: boolean): string {
    // The choice is the last but what the tail has.
    const end = inChoice ? this.#tail : "}\n\n";
    return `${event.slice(0, -end.length)},"${name}":${json}${end}`;
  }
}
