/**
 * UTF-8 that arrives in pieces.
 *
 * @module
 */

const REPLACEMENT = "\ufffd";

/**
 * An incremental UTF-8 decoder that keeps the bytes of an unfinished character. Unlike `TextDecoder` it keeps
 * U+FEFF, and it knows both ways in which tokenizers mark what is invalid:
 *
 *  - `subpart`: one U+FFFD for each maximal beginning of a character, as WHATWG and Rust's `from_utf8_lossy` do;
 *  - `byte`: one U+FFFD for each byte.
 */
export class Utf8Stream {
  /** Bytes of the unfinished character that were seen. */
  #seen = 0;
  /** Bytes of it that are still to come. */
  #needed = 0;
  #codePoint = 0;
  /** Range of the next continuation byte: excludes overlong forms, surrogates and what lies above U+10FFFF. */
  #low = 0x80;
  #high = 0xbf;

  constructor(private readonly invalid: "subpart" | "byte") {}

  /** Whether a character is unfinished. */
  get pending(): boolean {
    return this.#needed > 0;
  }

  /** Whole characters that these bytes complete. */
  push(bytes: Uint8Array): string {
    let text = "";
    for (const byte of bytes) {
      if (this.#needed > 0) {
        if (byte >= this.#low && byte <= this.#high) {
          this.#codePoint = this.#codePoint << 6 | byte & 0x3f;
          this.#low = 0x80;
          this.#high = 0xbf;
          this.#seen++;
          if (--this.#needed === 0) text += String.fromCodePoint(this.#codePoint);
          continue;
        }
        text += this.flush();
      }
      text += this.#lead(byte);
    }
    return text;
  }

  /** Gives up the unfinished character: its U+FFFD, or "" where none is unfinished. */
  flush(): string {
    if (this.#needed === 0) return "";
    this.#needed = 0;
    this.#low = 0x80;
    this.#high = 0xbf;
    return this.invalid === "byte" ? REPLACEMENT.repeat(this.#seen) : REPLACEMENT;
  }

  #lead(byte: number): string {
    if (byte < 0x80) return String.fromCharCode(byte);
    if (byte < 0xc2 || byte > 0xf4) return REPLACEMENT;
    this.#seen = 1;
    this.#needed = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    this.#codePoint = byte & (0x3f >> this.#needed);
    if (byte === 0xe0) this.#low = 0xa0;
    else if (byte === 0xed) this.#high = 0x9f;
    else if (byte === 0xf0) this.#low = 0x90;
    else if (byte === 0xf4) this.#high = 0x8f;
    return "";
  }
}

/** The text of bytes that are valid UTF-8 from beginning to end, else null. */
export function wholeUtf8(bytes: Uint8Array): string | null {
  const stream = new Utf8Stream("subpart");
  const text = stream.push(bytes);
  return stream.pending || text.includes(REPLACEMENT) ? null : text;
}
