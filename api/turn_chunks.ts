/**
 * Chunks of a chat whose turns are more than text: thoughts and calls of tools have fields of their own.
 *
 * @module
 */

import type { GenerateChunk } from "../runtime/types.ts";
import { finishReason } from "./batch.ts";
import { type ChunkWriter, deltaParts } from "./chunks.ts";
import type { Identity } from "./identity.ts";
import { chatLogprobs } from "./logprobs.ts";
import type { TurnEvent } from "./tools/events.ts";
import type { TurnParser } from "./tools/turn.ts";

/** Chunks of `POST /v1/chat/completions` that a parser reads. */
export class TurnChunkWriter implements ChunkWriter {
  readonly #head: string;
  readonly #tail: string;
  readonly #parser: TurnParser;
  readonly #reasoning: boolean;
  readonly #namesIds: boolean;
  #opened = false;

  /** `reasoning`: whether thoughts are shown. `namesIds`: see {@link chatLogprobs}. */
  constructor(
    identity: Identity,
    index: number,
    includeUsage: boolean,
    { parser, reasoning, namesIds }: { parser: TurnParser; reasoning: boolean; namesIds: boolean },
  ) {
    [this.#head, this.#tail] = deltaParts(identity, index, includeUsage);
    this.#parser = parser;
    this.#reasoning = reasoning;
    this.#namesIds = namesIds;
  }

  write(chunk: GenerateChunk): string {
    const events = this.#parser.push(chunk.text);
    if (chunk.finishReason !== null) events.push(...this.#parser.finish());
    const deltas = events.filter(({ type }) => this.#reasoning || type !== "reasoning").map(delta);
    if (!this.#opened) deltas.unshift({ role: "assistant", content: "" });
    this.#opened = true;
    if (chunk.logprobs !== undefined && deltas.length === 0) deltas.push({});
    const logprobs = chunk.logprobs === undefined
      ? "null"
      : JSON.stringify({ content: chatLogprobs(chunk.logprobs, this.#namesIds), refusal: null });
    // The tokens' probabilities go with the last piece that the tokens made known.
    const out = deltas.map((value, i) =>
      this.#event(value, i === deltas.length - 1 ? logprobs : "null", `"finish_reason":null`)
    );
    if (chunk.finishReason !== null) out.push(this.#event({}, "null", this.#finish(chunk)));
    return out.join("");
  }

  #event(value: object, logprobs: string, finish: string): string {
    return `${this.#head}${JSON.stringify(value)},"logprobs":${logprobs},${finish}${this.#tail}`;
  }

  #finish(chunk: GenerateChunk): string {
    const called = this.#parser.calls > 0;
    const reason = turnFinishReason(finishReason(chunk)!, called);
    const stop = called ? null : chunk.stopReason ?? null;
    return `"finish_reason":"${reason}","stop_reason":${JSON.stringify(stop)}`;
  }
}

/** Why a turn ended, as OpenAI says it. */
export function turnFinishReason(reason: "stop" | "length", called: boolean): string {
  return called && reason === "stop" ? "tool_calls" : reason;
}

function delta(event: TurnEvent): object {
  switch (event.type) {
    case "reasoning":
      return { reasoning_content: event.text };
    case "text":
      return { content: event.text };
    case "call": {
      const { index, id, name } = event;
      return { tool_calls: [{ index, id, type: "function", function: { name, arguments: "" } }] };
    }
    case "arguments":
      return { tool_calls: [{ index: event.index, function: { arguments: event.text } }] };
  }
}
