/**
 * Text from tokens, as they come.
 *
 * @module
 */
import type { DecoderPlan, Piece } from "./decoder.ts";
import { Utf8Stream } from "./utf8.ts";

/** Where a detokenizer gets the contributions of tokens: a tokenizer. */
export interface PieceSource {
  readonly invalid: DecoderPlan["invalid"];
  readonly strip: DecoderPlan["strip"];
  /** What a token contributes; null for one that is left out. */
  piece(id: number, first: boolean, skipSpecialTokens: boolean): Piece | null;
}

/** Tokens at the prompt's end that are looked at: a character has at most 4 bytes, and a token at least one. */
const PROMPT_TAIL = 8;

/**
 * Incremental: `push(id)` returns the new text ("" while a character is incomplete), `finish()` the rest. The
 * concatenation equals `tokenizer.decode(ids)` for every tokenizer kind, and contains U+FFFD only where that
 * does. Constant time per token.
 */
export class Detokenizer {
  readonly #source: PieceSource;
  readonly #skip: boolean;
  readonly #utf8: Utf8Stream;
  readonly #strip: TextStrip | null;
  #first = true;

  /** Use `ModelTokenizer.detokenizer()`. */
  constructor(source: PieceSource, skipSpecialTokens: boolean, prompt: readonly number[]) {
    this.#source = source;
    this.#skip = skipSpecialTokens;
    this.#utf8 = new Utf8Stream(source.invalid);
    this.#strip = source.strip && new TextStrip(source.strip);
    this.#prime(prompt);
  }

  /** The text that is complete with this token. */
  push(id: number): string {
    const piece = this.#source.piece(id, this.#first, this.#skip);
    if (piece === null) return "";
    this.#first = false;
    const utf8 = this.#utf8;
    let text: string;
    if (piece.bytes === null) text = utf8.flush() + piece.text;
    else if (piece.text !== null && !utf8.pending) text = piece.text;
    else text = utf8.push(piece.bytes);
    return this.#strip === null ? text : this.#strip.push(text);
  }

  /** The rest, after the last token: U+FFFD for a character that stayed incomplete. */
  finish(): string {
    const text = this.#utf8.flush();
    return this.#strip === null ? text : this.#strip.push(text);
  }

  /**
   * Brings the state to the end of the prompt. That takes its beginning, up to the first text, and its end, as
   * what lies between cannot matter.
   */
  #prime(prompt: readonly number[]): void {
    let next = 0;
    while (next < prompt.length && this.push(prompt[next]!) === "") next++;
    next++;
    let tail = prompt.length;
    for (let tokens = 0; tail > next && tokens < PROMPT_TAIL;) {
      const piece = this.#source.piece(prompt[--tail]!, false, this.#skip);
      if (piece !== null && (piece.bytes?.length ?? piece.text!.length) > 0) tokens++;
    }
    if (tail > next) this.#utf8.flush();
    for (; tail < prompt.length; tail++) this.push(prompt[tail]!);
  }
}

/** Strips a text that comes in pieces: its first `start` and last `stop` characters, where they are `content`. */
class TextStrip {
  readonly #content: string;
  readonly #stop: number;
  /** Characters at the beginning that may still be stripped. */
  #start: number;
  /** Characters that are held back, as they may be the last ones. */
  #held = 0;

  constructor({ content, start, stop }: NonNullable<DecoderPlan["strip"]>) {
    this.#content = content;
    this.#start = start;
    this.#stop = stop;
  }

  push(text: string): string {
    if (text === "") return "";
    while (this.#start > 0) {
      if (!text.startsWith(this.#content)) this.#start = 0;
      else {
        text = text.slice(this.#content.length);
        if (--this.#start > 0 && text === "") return "";
      }
    }
    if (this.#stop === 0) return text;
    text = this.#content.repeat(this.#held) + text;
    let end = text.length;
    this.#held = 0;
    while (this.#held < this.#stop && text[end - 1] === this.#content) {
      this.#held++;
      end--;
    }
    return text.slice(0, end);
  }
}
