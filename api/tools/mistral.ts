/**
 * Calls as Mistral's models write them, behind `[TOOL_CALLS]`: a list `[{"name": …, "arguments": …}, …]`, or, with
 * the later tokenizers, `name[ARGS]{…}` or `name{…}` with a marker before each.
 *
 * @module
 */

import type { ToolParser, TurnWriter } from "./events.ts";
import { JsonCall, ValueScanner } from "./json_call.ts";
import { MarkerScanner } from "./marker.ts";

const OPEN = "[TOOL_CALLS]";
const ID = "[CALL_ID]";
const ARGS = "[ARGS]";

/** See the module. */
export class MistralParser implements ToolParser {
  #state: "text" | "opened" | "list" | "call" | "name" | "arguments" = "text";
  #call: JsonCall;
  #name = "";
  #arguments = new ValueScanner();
  readonly #opening = new MarkerScanner(OPEN);
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
    else if (this.#state === "name") this.#writer.text(OPEN + this.#name);
    else if (this.#state === "call" && !this.#call.opened) this.#writer.text(OPEN + this.#call.raw);
    this.#writer.finish();
  }

  /** Takes some of the text and returns the rest. */
  #step(text: string): string {
    switch (this.#state) {
      case "text": {
        const found = this.#opening.push(text);
        this.#writer.text(typeof found === "string" ? found : found.before);
        if (typeof found === "string") return "";
        this.#state = "opened";
        return found.after;
      }
      case "opened":
        text = text.trimStart();
        if (text === "") return "";
        this.#name = "";
        this.#state = text[0] === "[" ? "list" : "name";
        return text[0] === "[" ? text.slice(1) : text;
      case "list":
        return this.#between(text);
      case "call": {
        const rest = text.slice(this.#call.push(text));
        if (this.#call.done) this.#state = "list";
        else if (this.#call.failed) {
          if (!this.#call.opened) this.#writer.text(OPEN + this.#call.raw);
          this.#state = "text";
        }
        return rest;
      }
      case "name":
        return this.#readName(text);
      case "arguments": {
        const end = this.#arguments.scan(text, 0);
        this.#writer.arguments(text.slice(0, end));
        if (this.#arguments.done) this.#state = "text";
        return text.slice(end);
      }
    }
  }

  /** Between two calls of a list. */
  #between(text: string): string {
    text = text.replace(/^[\s,]+/, "");
    if (text[0] === "]") {
      this.#state = "text";
      return text.slice(1);
    }
    if (text !== "") {
      this.#call = new JsonCall(this.#writer);
      this.#state = "call";
    }
    return text;
  }

  /** A name reaches to its arguments; an id may stand between. */
  #readName(text: string): string {
    this.#name += text;
    const marker = this.#name.indexOf(ARGS);
    const brace = this.#name.indexOf("{");
    const end = marker >= 0 ? marker : brace;
    if (end < 0) return "";
    const rest = this.#name.slice(marker >= 0 ? marker + ARGS.length : brace).trimStart();
    this.#writer.call(this.#name.slice(0, end).split(ID)[0]!.trim());
    this.#arguments = new ValueScanner();
    this.#state = "arguments";
    return rest;
  }
}
