/**
 * An assistant's turn as it comes out of a parser: text, thoughts and calls of tools, piece by piece.
 *
 * @module
 */

/** A piece of a turn. Pieces of the same kind follow one another; calls are numbered from 0. */
export type TurnEvent =
  | { type: "reasoning"; text: string }
  | { type: "text"; text: string }
  | { type: "call"; index: number; id: string; name: string }
  | { type: "arguments"; index: number; text: string };

/** Takes a turn's text in pieces of any size and gives what is certain so far. */
export interface ToolParser {
  /** Takes the next piece. */
  push(text: string): void;
  /** No more text comes. */
  finish(): void;
}

/** What a parser of calls may ask and where it puts what it finds. */
export class TurnWriter {
  #events: TurnEvent[] = [];
  #calls = 0;
  #space = "";
  #open = false;
  readonly #names: ReadonlySet<string>;
  readonly #newId: () => string;
  readonly #parallel: boolean;

  /** `names`: of the tools that were offered. Without `parallel` only the first call is kept. */
  constructor(names: ReadonlySet<string>, newId: () => string, parallel: boolean) {
    this.#names = names;
    this.#newId = newId;
    this.#parallel = parallel;
  }

  /** How many calls there are so far. */
  get calls(): number {
    return this.#calls;
  }

  /** Whether a tool of this name was offered. */
  knows(name: string): boolean {
    return this.#names.has(name);
  }

  /** Adds text. Space at its end waits for what follows: before and after calls it is no content. */
  text(text: string): void {
    const all = this.#space + text;
    const end = all.trimEnd().length;
    this.#space = all.slice(end);
    if (end > 0) this.#put({ type: "text", text: all.slice(0, end) });
  }

  /** Starts a call. */
  call(name: string): void {
    this.#space = "";
    this.#open = this.#parallel || this.#calls === 0;
    if (this.#open) this.#put({ type: "call", index: this.#calls++, id: this.#newId(), name });
  }

  /** Adds to the arguments of the last call. */
  arguments(text: string): void {
    if (this.#open && text !== "") this.#put({ type: "arguments", index: this.#calls - 1, text });
  }

  /** The end of the turn: space at the end of a text is part of it where nothing was called. */
  finish(): void {
    if (this.#calls === 0 && this.#space !== "") this.#put({ type: "text", text: this.#space });
    this.#space = "";
  }

  /** The events since the last call of this. */
  take(): TurnEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  #put(event: TurnEvent): void {
    const last = this.#events.at(-1);
    if (last?.type === "text" && event.type === "text") last.text += event.text;
    else if (last?.type === "arguments" && event.type === "arguments" && last.index === event.index) {
      last.text += event.text;
    } else this.#events.push(event);
  }
}
