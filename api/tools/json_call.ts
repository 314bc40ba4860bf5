/**
 * JSON values and calls such as `{"name": "f", "arguments": {…}}` in a text that comes in pieces.
 *
 * @module
 */

import type { TurnWriter } from "./events.ts";

const SPACE = /\s/;

/** Finds where a JSON value ends. It does not check the value: what a model writes is passed on as it is. */
export class ValueScanner {
  #kind: "none" | "string" | "container" | "scalar" = "none";
  #depth = 0;
  #inString = false;
  #escaped = false;
  #done = false;

  /** Whether the value is whole. A number or word is only when something follows it. */
  get done(): boolean {
    return this.#done;
  }

  /** Whether it is an object or an array. */
  get isContainer(): boolean {
    return this.#kind === "container";
  }

  /** Whether it is a text. */
  get isString(): boolean {
    return this.#kind === "string";
  }

  /** Reads on from `at`; returns where the value ends, or the text's length when it goes on. */
  scan(text: string, at: number): number {
    if (this.#kind === "none" && at < text.length) {
      const first = text[at]!;
      this.#kind = first === '"' ? "string" : first === "{" || first === "[" ? "container" : "scalar";
    }
    for (; at < text.length && !this.#done; at++) {
      const c = text[at]!;
      if (this.#kind === "scalar") {
        if (c !== "," && c !== "}" && c !== "]" && !SPACE.test(c)) continue;
        this.#done = true;
        return at;
      }
      if (this.#escaped) this.#escaped = false;
      else if (this.#inString) {
        if (c === "\\") this.#escaped = true;
        else if (c === '"') this.#inString = false;
      } else if (c === '"') this.#inString = true;
      else if (c === "{" || c === "[") this.#depth++;
      else if (c === "}" || c === "]") this.#depth--;
      this.#done = !this.#inString && !this.#escaped && this.#depth === 0;
    }
    return at;
  }
}

/** One call, written to a TurnWriter as soon as its name is known. */
export class JsonCall {
  #state: "start" | "key" | "colon" | "value" | "next" | "done" | "failed" = "start";
  #scanner = new ValueScanner();
  /** Of the key or value that is being read, unless it is passed on as it comes. */
  #value = "";
  #key = "";
  #name: string | null = null;
  /** Arguments that came before the name. */
  #early = "";
  #hasArguments = false;
  /** All that was read, while it may yet turn out to be no call. */
  #raw = "";
  readonly #writer: TurnWriter;
  readonly #accepts: (name: string) => boolean;

  /** `accepts`: whether a name makes it a call; a name that does not fails it. */
  constructor(writer: TurnWriter, accepts: (name: string) => boolean = () => true) {
    this.#writer = writer;
    this.#accepts = accepts;
  }

  get done(): boolean {
    return this.#state === "done";
  }

  /** Whether this is no call, or a call that went wrong. */
  get failed(): boolean {
    return this.#state === "failed";
  }

  /** Whether the call was written: its name is known. */
  get opened(): boolean {
    return this.#name !== null;
  }

  /** What was read of something that is no call. */
  get raw(): string {
    return this.#raw;
  }

  /** Reads on; returns where it ended, or the text's length. */
  push(text: string, from = 0): number {
    let at = from;
    while (at < text.length && this.#state !== "done" && this.#state !== "failed") at = this.#step(text, at);
    if (this.#name === null) this.#raw += text.slice(from, at);
    return at;
  }

  #step(text: string, at: number): number {
    if (this.#state === "value" || (this.#state === "key" && this.#value !== "")) return this.#read(text, at);
    const c = text[at]!;
    if (SPACE.test(c)) return at + 1;
    switch (this.#state) {
      case "start":
        this.#state = c === "{" ? "key" : "failed";
        return at + 1;
      case "key":
        if (c === '"') return this.#read(text, at);
        if (c === "}") this.#end();
        else this.#state = "failed";
        return at + 1;
      case "colon":
        this.#state = c === ":" ? "value" : "failed";
        return at + 1;
      default:
        if (c === "}") this.#end();
        else this.#state = c === "," ? "key" : "failed";
        return at + 1;
    }
  }

  /** Reads on in a key or a value. */
  #read(text: string, at: number): number {
    if (this.#value === "") { while (at < text.length && SPACE.test(text[at]!)) at++; }
    if (at === text.length) return at;
    const isArguments = this.#state === "value" && (this.#key === "arguments" || this.#key === "parameters");
    const end = this.#scanner.scan(text, at);
    const piece = text.slice(at, end);
    if (isArguments && this.#scanner.isContainer) {
      this.#hasArguments = true;
      if (this.#name !== null) this.#writer.arguments(piece);
      else this.#early += piece;
      this.#value = "…";
    } else this.#value += piece;
    if (this.#scanner.done) this.#endValue(isArguments);
    return end;
  }

  #endValue(isArguments: boolean): void {
    const { isContainer, isString } = this.#scanner;
    const value = isString ? textOf(this.#value) : this.#value;
    this.#scanner = new ValueScanner();
    this.#value = "";
    if (this.#state === "key") {
      this.#key = value;
      this.#state = "colon";
      return;
    }
    this.#state = "next";
    if (isArguments && !isContainer) {
      // Some models write the arguments as a text that holds the object.
      this.#hasArguments = true;
      const object = value === "null" ? "{}" : value;
      if (this.#name !== null) this.#writer.arguments(object);
      else this.#early = object;
    } else if (this.#key === "name" && this.#name === null) {
      if (!isString || value === "" || !this.#accepts(value)) this.#state = "failed";
      else {
        this.#name = value;
        this.#writer.call(value);
        this.#writer.arguments(this.#early);
      }
    }
  }

  #end(): void {
    this.#state = this.#name === null ? "failed" : "done";
    if (this.#name !== null && !this.#hasArguments) this.#writer.arguments("{}");
  }
}

function textOf(json: string): string {
  try {
    return String(JSON.parse(json));
  } catch {
    return json.slice(1, -1);
  }
}
