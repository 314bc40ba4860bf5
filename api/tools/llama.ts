/**
 * Calls as Llama 3 writes them: the whole turn is `{"name": …, "parameters": …}`, several with `;` between, or
 * stands behind `<|python_tag|>`, where it may also be `name.call(key="value")` or Python for a tool that runs it.
 *
 * @module
 */

import type { ToolParser, TurnWriter } from "./events.ts";
import { JsonCall } from "./json_call.ts";
import { MarkerScanner, overlap } from "./marker.ts";

const TAG = "<|python_tag|>";

/** Names that a tool for running Python goes by. */
const INTERPRETERS = ["code_interpreter", "python", "ipython"];

/** See the module. */
export class LlamaParser implements ToolParser {
  #state: "start" | "call" | "between" | "text" | "python" = "start";
  #call: JsonCall;
  /** A beginning that is not yet decided, or Python. */
  #held = "";
  readonly #tag = new MarkerScanner(TAG);
  readonly #writer: TurnWriter;

  constructor(writer: TurnWriter) {
    this.#writer = writer;
    this.#call = this.#newCall();
  }

  push(text: string): void {
    while (text !== "") text = this.#step(text);
  }

  finish(): void {
    if (this.#state === "start") this.#writer.text(this.#held);
    else if (this.#state === "call" && !this.#call.opened) this.#writer.text(this.#call.raw);
    else if (this.#state === "python") this.#python(this.#held);
    this.#writer.text(this.#tag.finish());
    this.#writer.finish();
  }

  /** An object is a call only if it names a tool: a model may well be asked for JSON with a name in it. */
  #newCall(): JsonCall {
    return new JsonCall(this.#writer, (name) => this.#writer.knows(name));
  }

  /** Takes some of the text and returns the rest. */
  #step(text: string): string {
    switch (this.#state) {
      case "start":
        return this.#start(text);
      case "call": {
        const rest = text.slice(this.#call.push(text));
        if (this.#call.done) this.#state = "between";
        else if (this.#call.failed) {
          if (!this.#call.opened) this.#writer.text(this.#call.raw);
          this.#state = "text";
        }
        return rest;
      }
      case "between": {
        const rest = text.replace(/^[\s;,]+/, "");
        if (rest !== "") this.#state = rest[0] === "{" ? "call" : "text";
        this.#call = this.#newCall();
        return rest;
      }
      case "text": {
        const found = this.#tag.push(text);
        this.#writer.text(typeof found === "string" ? found : found.before);
        if (typeof found === "string") return "";
        this.#state = "start";
        this.#held = TAG;
        return found.after;
      }
      case "python":
        this.#held += text;
        return "";
    }
  }

  /** At the beginning of the turn, or behind a tag. */
  #start(text: string): string {
    const all = this.#held + text;
    const tagged = all.trimStart().startsWith(TAG);
    const rest = (tagged ? all.trimStart().slice(TAG.length) : all).trimStart();
    if (rest === "" || (!tagged && overlap(rest, TAG) === rest.length)) {
      this.#held = all;
      return "";
    }
    this.#held = "";
    if (rest[0] === "{") {
      this.#call = this.#newCall();
      this.#state = "call";
      return rest;
    }
    this.#state = tagged ? "python" : "text";
    return tagged ? rest : all;
  }

  #python(code: string): void {
    const [, name, given] = /^\s*([\w-]+)\.call\((.*)\)\s*$/s.exec(code) ?? [];
    const pairs = given === undefined ? null : keywordArguments(given);
    const interpreter = INTERPRETERS.find((name) => this.#writer.knows(name));
    if (name !== undefined && pairs !== null) {
      this.#writer.call(name);
      this.#writer.arguments(JSON.stringify(pairs));
    } else if (interpreter !== undefined) {
      this.#writer.call(interpreter);
      this.#writer.arguments(JSON.stringify({ code }));
    } else this.#writer.text(code);
  }
}

/** `a="x", b=1` as an object; null where it is something else. */
function keywordArguments(text: string): Record<string, unknown> | null {
  const pair = /\s*(\w+)\s*=\s*("(?:[^"\\]|\\.)*"|[^,"]+?)\s*(?:,|$)/sy;
  const pairs: Record<string, unknown> = {};
  while (pair.lastIndex < text.length) {
    const [, key, value] = pair.exec(text) ?? [];
    if (key === undefined) return null;
    try {
      pairs[key] = JSON.parse(value!);
    } catch {
      return null;
    }
  }
  return pairs;
}
