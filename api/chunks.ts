/**
 * Streamed chunks as SSE events. All of an event that does not change is written once per choice; a token
 * costs one JSON.stringify of its text.
 *
 * @module
 */

import type { GenerateChunk } from "../runtime/types.ts";
import { finishReason } from "./batch.ts";
import type { Identity } from "./identity.ts";
import { chatLogprobs, CompletionLogprobWriter, type PromptLogprob } from "./logprobs.ts";
import { event } from "./sse.ts";
import type { UsageBody } from "./usage.ts";

/** Turns one choice's chunks into events. */
export interface ChunkWriter {
  /** The events for a chunk: none when there is nothing new to say. */
  write(chunk: GenerateChunk): string;
}

/** The event that ends a stream with `include_usage`: no choices, all counts. */
export function usageEvent(identity: Identity, usage: UsageBody): string {
  return event({ ...identity, choices: [], usage });
}

/** What follows the fields of a choice. With `include_usage`, OpenAI gives every other chunk a usage of null. */
export function eventTail(includeUsage: boolean): string {
  return includeUsage ? `}],"usage":null}\n\n` : "}]}\n\n";
}

/** What stands before a choice's own content, up to and including `"name":`. */
function head(identity: Identity, index: number, name: string): string {
  return `data: ${JSON.stringify(identity).slice(0, -1)},"choices":[{"index":${index},"${name}":`;
}

/** What stands before and after a chat choice's delta and its other fields. */
export function deltaParts(identity: Identity, index: number, includeUsage: boolean): [string, string] {
  return [head(identity, index, "delta"), eventTail(includeUsage)];
}

/** The end of a choice: its finish and, as in vLLM, the stop string or token id that caused it. */
function finish(chunk: GenerateChunk): string {
  const reason = finishReason(chunk);
  if (reason === null) return `,"finish_reason":null`;
  return `,"finish_reason":"${reason}","stop_reason":${JSON.stringify(chunk.stopReason ?? null)}`;
}

/** Chunks of `POST /v1/chat/completions`. */
export class ChatChunkWriter implements ChunkWriter {
  #head: string;
  #tail: string;
  #plain: string;
  #namesIds: boolean;
  #opened = false;

  /** `namesIds`: see {@link chatLogprobs}. */
  constructor(identity: Identity, index: number, includeUsage: boolean, namesIds = false) {
    this.#head = head(identity, index, "delta");
    this.#namesIds = namesIds;
    this.#tail = eventTail(includeUsage);
    this.#plain = `},"logprobs":null,"finish_reason":null${this.#tail}`;
  }

  write(chunk: GenerateChunk): string {
    const { text, logprobs } = chunk;
    const first = this.#opened ? "" : this.#open();
    if (chunk.finishReason === null && logprobs === undefined) {
      return text === "" ? first : `${first}${this.#head}{"content":${JSON.stringify(text)}${this.#plain}`;
    }
    const delta = text === "" ? "{}" : `{"content":${JSON.stringify(text)}}`;
    const probabilities = logprobs === undefined
      ? "null"
      : JSON.stringify({ content: chatLogprobs(logprobs, this.#namesIds), refusal: null });
    return `${first}${this.#head}${delta},"logprobs":${probabilities}${finish(chunk)}${this.#tail}`;
  }

  #open(): string {
    this.#opened = true;
    return `${this.#head}{"role":"assistant","content":""${this.#plain}`;
  }
}

/** Chunks of `POST /v1/completions`. */
export class CompletionChunkWriter implements ChunkWriter {
  #head: string;
  #tail: string;
  #plain: string;
  #logprobs: CompletionLogprobWriter;

  /** `namesIds`: see {@link CompletionLogprobWriter}. */
  constructor(identity: Identity, index: number, includeUsage: boolean, namesIds = false) {
    this.#head = head(identity, index, "text");
    this.#logprobs = new CompletionLogprobWriter(namesIds);
    this.#tail = eventTail(includeUsage);
    this.#plain = `,"logprobs":null,"finish_reason":null${this.#tail}`;
  }

  /** The event that repeats the prompt, before the first chunk. */
  echo(text: string, logprobs: readonly PromptLogprob[] | null): string {
    const probabilities = logprobs === null ? "null" : JSON.stringify(this.#logprobs.write(logprobs));
    return `${this.#head}${
      JSON.stringify(text)
    },"logprobs":${probabilities},"finish_reason":null${this.#tail}`;
  }

  write(chunk: GenerateChunk): string {
    const { text, logprobs } = chunk;
    if (chunk.finishReason === null && logprobs === undefined) {
      return text === "" ? "" : `${this.#head}${JSON.stringify(text)}${this.#plain}`;
    }
    const probabilities = logprobs === undefined ? "null" : JSON.stringify(this.#logprobs.write(logprobs));
    return `${this.#head}${JSON.stringify(text)},"logprobs":${probabilities}${finish(chunk)}${this.#tail}`;
  }
}
