/**
 * A whole turn of an assistant: what it thought, what it said, what it calls.
 *
 * @module
 */

import { type ToolParser, type TurnEvent, TurnWriter } from "./events.ts";
import { newCallId, newToolParser, type ToolFormat } from "./formats.ts";
import { MarkerScanner } from "./marker.ts";

/** The marks around thoughts. */
export interface Thinking {
  open: string;
  close: string;
}

const THINKING: readonly Thinking[] = [
  { open: "<think>", close: "</think>" },
  { open: "[THINK]", close: "[/THINK]" },
];

/** The marks of a template whose model thinks, else null. */
export function thinkingOf(template: string): Thinking | null {
  return THINKING.find(({ open, close }) => template.includes(open) || template.includes(close)) ?? null;
}

/** How a turn is to be read. */
export interface TurnOptions {
  /** The format of calls and the names of the tools; null where none were offered. */
  tools: { format: ToolFormat; names: ReadonlySet<string>; parallel: boolean } | null;
  thinking: Thinking | null;
  /** Whether the prompt ends within the thoughts. */
  startsThinking: boolean;
  /** How the turn begins: it was given to the model as the end of its prompt. */
  opening: string;
}

/** Reads one turn as it comes. */
export class TurnParser {
  #state: "start" | "thinking" | "answer";
  #held = "";
  #closing: MarkerScanner;
  /** Space at the end of the thoughts so far. */
  #space = "";
  /** Whether there are any. */
  #thought = false;
  /** Whether the space between thoughts and answer is still to be dropped. */
  #spaceBefore = false;
  #events: TurnEvent[] = [];
  readonly #thinking: Thinking | null;
  readonly #writer: TurnWriter;
  readonly #parser: ToolParser;

  constructor({ tools, thinking, startsThinking, opening }: TurnOptions) {
    const format = tools?.format ?? "hermes";
    this.#writer = new TurnWriter(
      tools?.names ?? new Set(),
      () => newCallId(format),
      tools?.parallel ?? true,
    );
    this.#parser = tools === null ? new PlainText(this.#writer) : newToolParser(format, this.#writer);
    this.#thinking = thinking;
    this.#closing = new MarkerScanner(thinking?.close ?? "\0");
    this.#state = startsThinking ? "thinking" : thinking === null || opening !== "" ? "answer" : "start";
    if (opening !== "") this.#parser.push(opening);
  }

  /** How many calls there are so far. */
  get calls(): number {
    return this.#writer.calls;
  }

  /** Takes the next piece of text. */
  push(text: string): TurnEvent[] {
    if (text !== "") this.#push(text);
    return this.#take();
  }

  /** No more text comes. */
  finish(): TurnEvent[] {
    if (this.#state === "start") this.#answer(this.#held);
    else if (this.#state === "thinking") this.#think(this.#closing.finish());
    this.#parser.finish();
    return this.#take();
  }

  #push(text: string): void {
    if (this.#state === "start") {
      this.#held += text;
      const begun = this.#held.trimStart();
      const { open } = this.#thinking!;
      if (begun.length < open.length && open.startsWith(begun)) return;
      text = this.#held;
      this.#held = "";
      this.#state = begun.startsWith(open) ? "thinking" : "answer";
      if (this.#state === "thinking") text = begun.slice(open.length);
    }
    if (this.#state === "answer") return this.#answer(text);
    const found = this.#closing.push(text);
    this.#think(typeof found === "string" ? found : found.before);
    if (typeof found === "string") return;
    this.#state = "answer";
    this.#space = "";
    this.#spaceBefore = true;
    if (found.after !== "") this.#answer(found.after);
  }

  #answer(text: string): void {
    if (this.#spaceBefore) text = text.trimStart();
    if (text === "") return;
    this.#spaceBefore = false;
    this.#parser.push(text);
  }

  /** Thoughts are given without the space around them. */
  #think(text: string): void {
    const all = this.#space + text;
    const end = all.trimEnd().length;
    const thought = this.#thought ? all.slice(0, end) : all.trim();
    this.#space = all.slice(end);
    if (thought === "") return;
    this.#thought = true;
    this.#events.push({ type: "reasoning", text: thought });
  }

  #take(): TurnEvent[] {
    const events = this.#events;
    this.#events = [];
    return [...events, ...this.#writer.take()];
  }
}

/** For turns without tools. */
class PlainText implements ToolParser {
  readonly #writer: TurnWriter;

  constructor(writer: TurnWriter) {
    this.#writer = writer;
  }

  push(text: string): void {
    this.#writer.text(text);
  }

  finish(): void {
    this.#writer.finish();
  }
}

/** A call as a whole. */
export interface ToolCall {
  id: string;
  name: string;
  /** JSON, as the model wrote it. */
  arguments: string;
}

/** A turn as a whole. */
export interface Turn {
  reasoning: string;
  text: string;
  calls: ToolCall[];
}

/** Reads a whole turn at once; without a parser all of it is text. */
export function readTurn(text: string, parser: TurnParser | null): Turn {
  const turn: Turn = { reasoning: "", text: parser === null ? text : "", calls: [] };
  if (parser === null) return turn;
  for (const event of [...parser.push(text), ...parser.finish()]) {
    if (event.type === "reasoning") turn.reasoning += event.text;
    else if (event.type === "text") turn.text += event.text;
    else if (event.type === "call") turn.calls.push({ id: event.id, name: event.name, arguments: "" });
    else turn.calls[event.index]!.arguments += event.text;
  }
  return turn;
}
