/**
 * A single-producer, single-consumer queue of 32-bit words in shared memory: how the server's isolate and
 * the engine's worker talk. A record becomes visible as a whole with {@link Ring.publish}; one wake-up can
 * carry many records. Nothing is allocated per record.
 *
 * @module
 */

const HEAD = 0; // words consumed, modulo 2^32
const TAIL = 1; // words published, modulo 2^32
const HEADER = 16; // keeps the data off the counters' cache line

/** One end of a queue; which end is decided by which methods are called. */
export class Ring {
  readonly #control: Int32Array;
  readonly #words: Int32Array;
  readonly #floats: Float32Array;
  readonly #mask: number;
  #cursor: number;

  /** @param buffer made by {@link Ring.allocate}, shared by both ends */
  constructor(readonly buffer: SharedArrayBuffer) {
    this.#control = new Int32Array(buffer, 0, HEADER);
    this.#words = new Int32Array(buffer, HEADER * 4);
    this.#floats = new Float32Array(buffer, HEADER * 4);
    this.#mask = this.#words.length - 1;
    this.#cursor = 0;
  }

  /** Shared memory for a queue of at least `words` words (rounded up to a power of two). */
  static allocate(words: number): SharedArrayBuffer {
    const size = 2 ** Math.ceil(Math.log2(Math.max(words, 64)));
    return new SharedArrayBuffer((HEADER + size) * 4);
  }

  // ---- producer

  /** Whether a record of `words` words fits now, beside those put but not yet published. */
  hasRoom(words: number): boolean {
    const used = (this.#cursor - Atomics.load(this.#control, HEAD)) >>> 0;
    return used + words <= this.#words.length;
  }

  /** Waits until a record of `words` words fits; false after `timeoutMs`. Not on a main thread. */
  waitForRoom(words: number, timeoutMs: number): boolean {
    const head = Atomics.load(this.#control, HEAD);
    if (this.hasRoom(words)) return true;
    Atomics.wait(this.#control, HEAD, head, timeoutMs);
    return this.hasRoom(words);
  }

  /** Appends a word to the record being written. */
  put(word: number): void {
    this.#words[this.#cursor & this.#mask] = word;
    this.#cursor = (this.#cursor + 1) >>> 0;
  }

  /** Appends a float32. */
  putFloat(value: number): void {
    this.#floats[this.#cursor & this.#mask] = value;
    this.#cursor = (this.#cursor + 1) >>> 0;
  }

  /** Shows everything put so far to the consumer and wakes it. */
  publish(): void {
    if (Atomics.load(this.#control, TAIL) === (this.#cursor | 0)) return;
    Atomics.store(this.#control, TAIL, this.#cursor | 0);
    Atomics.notify(this.#control, TAIL);
  }

  // ---- consumer

  /** Goes on where another consumer, which is gone, released last. */
  resume(): void {
    this.#cursor = Atomics.load(this.#control, HEAD) >>> 0;
  }

  /** Words that can be taken. */
  get available(): number {
    return (Atomics.load(this.#control, TAIL) - this.#cursor) >>> 0;
  }

  /** Takes the next word as an int32. */
  take(): number {
    const word = this.#words[this.#cursor & this.#mask]!;
    this.#cursor = (this.#cursor + 1) >>> 0;
    return word;
  }

  /** Takes the next word as a float32. */
  takeFloat(): number {
    const value = this.#floats[this.#cursor & this.#mask]!;
    this.#cursor = (this.#cursor + 1) >>> 0;
    return value;
  }

  /** Gives the space of everything taken so far back to the producer. */
  release(): void {
    Atomics.store(this.#control, HEAD, this.#cursor | 0);
    Atomics.notify(this.#control, HEAD);
  }

  /** Blocks until something is available or `timeoutMs` have passed. Not on a main thread. */
  wait(timeoutMs: number): void {
    Atomics.wait(this.#control, TAIL, this.#cursor | 0, timeoutMs);
  }

  /** Resolves when something is available or `timeoutMs` have passed, without blocking. */
  async waitAsync(timeoutMs: number): Promise<void> {
    const outcome = Atomics.waitAsync(this.#control, TAIL, this.#cursor | 0, timeoutMs);
    if (outcome.async) await outcome.value;
  }
}
