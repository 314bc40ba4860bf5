/**
 * The items of a response as they come to be, and the events that tell of it.
 *
 * @module
 */

import type { TokenLogprob } from "../../runtime/types.ts";
import { type ChatLogprob, chatLogprobs } from "../logprobs.ts";
import { namedEvent } from "../sse.ts";
import type { TurnEvent } from "../tools/events.ts";

type Status = "in_progress" | "completed" | "incomplete";

/** What the assistant said. */
export interface MessageItem {
  id: string;
  type: "message";
  role: "assistant";
  status: Status;
  content: { type: "output_text"; text: string; annotations: never[]; logprobs: ChatLogprob[] }[];
}

/** What it thought. */
export interface ReasoningItem {
  id: string;
  type: "reasoning";
  status: Status;
  summary: never[];
  content: { type: "reasoning_text"; text: string }[];
}

/** What it calls. */
export interface CallItem {
  id: string;
  type: "function_call";
  status: Status;
  call_id: string;
  name: string;
  arguments: string;
}

/** An item of a response's `output`. */
export type OutputItem = MessageItem | ReasoningItem | CallItem;

/** Collects the items and gives the text of their events, numbered from where the caller's events end. */
export class OutputWriter {
  readonly items: OutputItem[] = [];
  #events = "";
  #sequence = 0;
  /** What stands before the sequence number of a delta of the open item. */
  #deltaHead = "";

  /** An event with the next number. */
  event(type: string, fields: object): string {
    return namedEvent({ type, sequence_number: this.#sequence++, ...fields });
  }

  /** Takes a piece of the turn, with the log probabilities that belong to it. */
  take(event: TurnEvent, logprobs: readonly TokenLogprob[] = []): void {
    switch (event.type) {
      case "call":
        this.#open({
          id: newId("fc"),
          type: "function_call",
          status: "in_progress",
          call_id: event.id,
          name: event.name,
          arguments: "",
        });
        return;
      case "arguments":
        (this.items.at(-1) as CallItem).arguments += event.text;
        this.#delta(event.text);
        return;
      case "text": {
        const last = this.items.at(-1);
        const item = last?.type === "message" ? last : this.#open({
          id: newId("msg"),
          type: "message",
          role: "assistant",
          status: "in_progress",
          content: [],
        }) as MessageItem;
        const part = item.content[0]!;
        part.text += event.text;
        const entries = chatLogprobs(logprobs);
        part.logprobs.push(...entries);
        this.#delta(event.text, entries);
        return;
      }
      case "reasoning": {
        const last = this.items.at(-1);
        const item = last?.type === "reasoning" ? last : this.#open({
          id: newId("rs"),
          type: "reasoning",
          status: "in_progress",
          summary: [],
          content: [],
        }) as ReasoningItem;
        item.content[0]!.text += event.text;
        this.#delta(event.text);
      }
    }
  }

  /** Ends the last item. */
  finish(status: Status): void {
    const item = this.items.at(-1);
    if (item?.status === "in_progress") this.#close(item, status);
  }

  /** The events since the last call of this. */
  takeEvents(): string {
    const events = this.#events;
    this.#events = "";
    return events;
  }

  #open(item: OutputItem): OutputItem {
    this.finish("completed");
    this.items.push(item);
    const place = { item_id: item.id, output_index: this.items.length - 1 };
    this.#emit("response.output_item.added", { output_index: place.output_index, item });
    if (item.type !== "function_call") {
      const part = item.type === "message"
        ? { type: "output_text" as const, text: "", annotations: [], logprobs: [] }
        : { type: "reasoning_text" as const, text: "" };
      (item.content as unknown[]).push(part);
      this.#emit("response.content_part.added", { ...place, content_index: 0, part });
    }
    const type = `${prefixOf(item)}.delta`;
    const fields = { type, ...place, ...(item.type !== "function_call" && { content_index: 0 }) };
    this.#deltaHead = `event: ${type}\ndata: ${JSON.stringify(fields).slice(0, -1)},"sequence_number":`;
    return item;
  }

  /** The constant part is written once per item; a delta costs one JSON.stringify of its text. */
  #delta(text: string, logprobs?: readonly ChatLogprob[]): void {
    const probabilities = logprobs === undefined
      ? ""
      : logprobs.length === 0
      ? `,"logprobs":[]`
      : `,"logprobs":${JSON.stringify(logprobs)}`;
    this.#events += `${this.#deltaHead}${this.#sequence++}${probabilities},"delta":${
      JSON.stringify(text)
    }}\n\n`;
  }

  #close(item: OutputItem, status: Status): void {
    item.status = status;
    const index = { output_index: this.items.length - 1 };
    const place = { item_id: item.id, ...index };
    if (item.type === "function_call") {
      const { name, arguments: json } = item;
      this.#emit(`${prefixOf(item)}.done`, { ...place, name, arguments: json });
    } else {
      const [part] = item.content;
      const content = { ...place, content_index: 0 };
      const logprobs = item.type === "message" ? { logprobs: item.content[0]!.logprobs } : {};
      this.#emit(`${prefixOf(item)}.done`, { ...content, text: part!.text, ...logprobs });
      this.#emit("response.content_part.done", { ...content, part });
    }
    this.#emit("response.output_item.done", { ...index, item });
  }

  #emit(type: string, fields: object): void {
    this.#events += this.event(type, fields);
  }
}

function prefixOf(item: OutputItem): string {
  if (item.type === "function_call") return "response.function_call_arguments";
  return item.type === "message" ? "response.output_text" : "response.reasoning_text";
}

/** A fresh id with OpenAI's prefix. */
export function newId(prefix: string): string {
  return `${prefix}_${crypto.randomUUID().replaceAll("-", "")}`;
}
