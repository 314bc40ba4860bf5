/**
 * Calls as Hermes and Qwen write them: `<tool_call>{"name": …, "arguments": …}</tool_call>`, among text.
 *
 * @module
 */

import type { ToolParser, TurnWriter } from "./events.ts";
import { JsonCall } from "./json_call.ts";
import { MarkerScanner } from "./marker.ts";

const OPEN = "<tool_call>";
const CLOSE = "</tool_call>";

/** See the module. */
export class HermesParser implements ToolParser {
  #state: "text" | "call" | "close" = "text";
  #call: JsonCall;
  readonly #opening = new MarkerScanner(OPEN);
  /** A call that is not closed ends where the next one begins. */
  readonly #closing = new MarkerScanner(CLOSE, OPEN);
  readonly #writer: TurnWriter;

  constructor(writer: TurnWriter) {
    this.#writer = writer;
    this.#call = new JsonCall(writer);
  }

  push(text: string): void {
    while (text !== "") text = this.#step(text);
  }

  finish(): void {
    if (this.#state === "text") this.#writer.text(this.#opening.finish());
    else if (this.#state === "call" && !this.#call.opened) this.#writer.text(OPEN + this.#call.raw);
    this.#writer.finish();
  }

  /** Takes some of the text and returns the rest. */
  #step(text: string): string {
    if (this.#state === "call") {
      const rest = text.slice(this.#call.push(text));
      if (this.#call.failed && !this.#call.opened) {
        this.#writer.text(OPEN + this.#call.raw);
        this.#state = "text";
      } else if (this.#call.done || this.#call.failed) this.#state = "close";
      return rest;
    }
    const found = (this.#state === "text" ? this.#opening : this.#closing).push(text);
    const before = typeof found === "string" ? found : found.before;
    if (this.#state === "text") this.#writer.text(before);
    if (typeof found === "string") return "";
    this.#state = found.marker === OPEN ? "call" : "text";
    if (this.#state === "call") this.#call = new JsonCall(this.#writer);
    return found.after;
  }
}
