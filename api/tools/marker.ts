/**
 * Markers in a text that comes in pieces.
 *
 * @module
 */

/** Where the first of `markers` stands in a text. */
export interface Found {
  marker: string;
  /** The text before it. */
  before: string;
  /** The text behind it. */
  after: string;
}

/** Looks for markers across pieces and keeps back only what may be the beginning of one. */
export class MarkerScanner {
  #held = "";
  readonly #markers: readonly string[];

  constructor(...markers: readonly string[]) {
    this.#markers = markers;
  }

  /** The first marker, or text that is certain to stand before any. Once one is found, start again with `after`. */
  push(text: string): Found | string {
    const all = this.#held + text;
    this.#held = "";
    let at = -1, found = "";
    for (const marker of this.#markers) {
      const index = all.indexOf(marker);
      if (index >= 0 && (at < 0 || index < at)) [at, found] = [index, marker];
    }
    if (at >= 0) return { marker: found, before: all.slice(0, at), after: all.slice(at + found.length) };
    const safe = all.length - Math.max(...this.#markers.map((marker) => overlap(all, marker)));
    this.#held = all.slice(safe);
    return all.slice(0, safe);
  }

  /** What was kept back. */
  finish(): string {
    const held = this.#held;
    this.#held = "";
    return held;
  }
}

/** Length of the longest end of `text` that a marker begins with, less than the whole marker. */
export function overlap(text: string, marker: string): number {
  for (let n = Math.min(text.length, marker.length - 1); n > 0; n--) {
    if (text.endsWith(marker.slice(0, n))) return n;
  }
  return 0;
}
