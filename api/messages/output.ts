/**
 * Anthropic's message: its blocks as they come to be, and the events that tell of them.
 *
 * @module
 */

import type { GenerateChunk, Usage } from "../../runtime/types.ts";
import { finishReason } from "../batch.ts";
import type { ChunkWriter } from "../chunks.ts";
import { namedEvent } from "../sse.ts";
import type { TurnEvent } from "../tools/events.ts";
import type { TurnParser } from "../tools/turn.ts";

/** A block of the answer. */
export type OutputBlock =
  | { type: "text"; text: string }
  | { type: "thinking"; thinking: string; signature: string }
  | { type: "tool_use"; id: string; name: string; input: unknown };

/** Why a message ended. */
type StopReason = "end_turn" | "max_tokens" | "stop_sequence" | "tool_use";

/** Collects one message, and writes its events. */
export class MessageWriter implements ChunkWriter {
  readonly id = `msg_${crypto.randomUUID().replaceAll("-", "")}`;
  readonly #blocks: OutputBlock[] = [];
  /** What the model wrote as the last block's input. */
  #json = "";
  #deltaHead = "";
  #open = false;
  #events = "";
  #stopReason: StopReason | null = null;
  #stopSequence: string | null = null;
  readonly #model: string;
  readonly #usage: Usage;
  readonly #parser: TurnParser | null;

  constructor(model: string, usage: Usage, parser: TurnParser | null) {
    this.#model = model;
    this.#usage = usage;
    this.#parser = parser;
  }

  /** The message as it is now. */
  message() {
    return {
      id: this.id,
      type: "message",
      role: "assistant",
      model: this.#model,
      content: this.#blocks,
      stop_reason: this.#stopReason,
      stop_sequence: this.#stopSequence,
      usage: this.#counts(),
    };
  }

  /** The first events. */
  open(): string {
    return namedEvent({ type: "message_start", message: this.message() }) + namedEvent({ type: "ping" });
  }

  write(chunk: GenerateChunk): string {
    for (const event of this.#eventsOf(chunk)) this.#take(event);
    if (chunk.finishReason !== null) {
      this.#endBlock();
      this.#stop(finishReason(chunk)!, chunk.stopReason);
    }
    const events = this.#events;
    this.#events = "";
    return events;
  }

  /** The last events. */
  close(): string {
    const delta = { stop_reason: this.#stopReason, stop_sequence: this.#stopSequence };
    return namedEvent({ type: "message_delta", delta, usage: this.#counts() }) +
      namedEvent({ type: "message_stop" });
  }

  #eventsOf({ text, finishReason }: GenerateChunk): TurnEvent[] {
    if (this.#parser === null) return text === "" ? [] : [{ type: "text", text }];
    const events = this.#parser.push(text);
    return finishReason === null ? events : [...events, ...this.#parser.finish()];
  }

  #take(event: TurnEvent): void {
    const last = this.#open ? this.#blocks.at(-1) : undefined;
    switch (event.type) {
      case "text":
        if (last?.type !== "text") this.#begin({ type: "text", text: "" }, "text_delta", "text");
        (this.#blocks.at(-1) as { text: string }).text += event.text;
        return this.#delta(event.text);
      case "reasoning":
        if (last?.type !== "thinking") {
          this.#begin({ type: "thinking", thinking: "", signature: "" }, "thinking_delta", "thinking");
        }
        (this.#blocks.at(-1) as { thinking: string }).thinking += event.text;
        return this.#delta(event.text);
      case "call": {
        const id = event.id.replace(/^call_/, "toolu_");
        this.#begin(
          { type: "tool_use", id, name: event.name, input: {} },
          "input_json_delta",
          "partial_json",
        );
        return;
      }
      case "arguments":
        this.#json += event.text;
        return this.#delta(event.text);
    }
  }

  #begin(block: OutputBlock, deltaType: string, field: string): void {
    this.#endBlock();
    const index = this.#blocks.push(block) - 1;
    this.#open = true;
    this.#json = "";
    this.#events += namedEvent({ type: "content_block_start", index, content_block: block });
    this.#deltaHead = "event: content_block_delta\ndata: " +
      `{"type":"content_block_delta","index":${index},"delta":{"type":"${deltaType}","${field}":`;
  }

  /** The constant part is written once per block; a delta costs one JSON.stringify of its text. */
  #delta(text: string): void {
    this.#events += `${this.#deltaHead}${JSON.stringify(text)}}}\n\n`;
  }

  #endBlock(): void {
    if (!this.#open) return;
    this.#open = false;
    const block = this.#blocks.at(-1)!;
    if (block.type === "tool_use") block.input = objectOf(this.#json);
    this.#events += namedEvent({ type: "content_block_stop", index: this.#blocks.length - 1 });
  }

  #stop(reason: "stop" | "length", stopped: string | number | undefined): void {
    if (reason === "length") this.#stopReason = "max_tokens";
    else if (this.#blocks.some(({ type }) => type === "tool_use")) this.#stopReason = "tool_use";
    else if (typeof stopped === "string") {
      this.#stopReason = "stop_sequence";
      this.#stopSequence = stopped;
    } else this.#stopReason = "end_turn";
  }

  /** Tokens found in the cache are counted apart, as Anthropic does. */
  #counts() {
    const { promptTokens, cachedTokens, completionTokens } = this.#usage;
    return {
      input_tokens: promptTokens - cachedTokens,
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: cachedTokens,
      output_tokens: completionTokens,
    };
  }
}

/** The input of a call. What is no JSON is kept as it was written, under a name that says so. */
function objectOf(json: string): unknown {
  try {
    const value: unknown = JSON.parse(json);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch {
    // Cut off, or never any.
  }
  return { invalid_json: json };
}
