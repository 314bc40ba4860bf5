/**
 * Stop strings in a text that comes in pieces.
 *
 * @module
 */

/**
 * Finds stop strings across chunk boundaries: `push(text)` returns what is safe to emit, holding back only what
 * could be the beginning of a stop string. The text ends before the match that is complete first; of several
 * that end at the same character, the one that begins first.
 *
 * Aho-Corasick over UTF-16 units: constant time per unit, however many stop strings there are.
 */
export class StopMatcher {
  /** Node to unit to node. Node 0 is the root. */
  readonly #next: Map<number, number>[] = [new Map()];
  /** The longest other node that is a suffix of this one. */
  readonly #fail: number[] = [0];
  readonly #depth: number[] = [0];
  /** The longest stop string that ends at a node. */
  readonly #stop: (string | null)[] = [null];
  #state = 0;
  #held = "";
  #matched: string | null = null;

  /** Empty strings never match. */
  constructor(stops: readonly string[]) {
    for (const stop of stops) if (stop !== "") this.#add(stop);
    const queue = [...this.#next[0]!.values()];
    for (const node of queue) {
      for (const [unit, child] of this.#next[node]!) {
        const fail = this.#step(this.#fail[node]!, unit);
        this.#fail[child] = fail;
        this.#stop[child] ??= this.#stop[fail]!;
        queue.push(child);
      }
    }
  }

  /** The stop string that was found, or null. */
  get matched(): string | null {
    return this.#matched;
  }

  /**
   * Text that is certain to be before any stop string. "" once a stop string was found. `ends`: whether one that
   * ends within this text is looked for; one that only begins here is, in any case.
   */
  push(text: string, ends = true): string {
    if (this.#matched !== null) return "";
    for (let i = 0; i < text.length; i++) {
      this.#state = this.#step(this.#state, text.charCodeAt(i));
      const stop = this.#stop[this.#state]!;
      if (stop === null || !ends) continue;
      this.#matched = stop;
      const all = this.#held + text.slice(0, i + 1);
      this.#held = "";
      return all.slice(0, all.length - stop.length);
    }
    const all = this.#held + text;
    let safe = all.length - this.#depth[this.#state]!;
    // Never half a character, even where the input was cut there.
    if (safe > 0 && (all.charCodeAt(safe - 1) & 0xfc00) === 0xd800) safe--;
    this.#held = all.slice(safe);
    return all.slice(0, safe);
  }

  /** What was held back, as no more text comes. */
  finish(): string {
    const rest = this.#held;
    this.#held = "";
    this.#state = 0;
    return rest;
  }

  #add(stop: string): void {
    let node = 0;
    for (let i = 0; i < stop.length; i++) {
      const unit = stop.charCodeAt(i);
      let child = this.#next[node]!.get(unit);
      if (child === undefined) {
        child = this.#next.push(new Map()) - 1;
        this.#fail.push(0);
        this.#depth.push(i + 1);
        this.#stop.push(null);
        this.#next[node]!.set(unit, child);
      }
      node = child;
    }
    this.#stop[node] = stop;
  }

  #step(node: number, unit: number): number {
    for (;;) {
      const child = this.#next[node]!.get(unit);
      if (child !== undefined) return child;
      if (node === 0) return 0;
      node = this.#fail[node]!;
    }
  }
}
