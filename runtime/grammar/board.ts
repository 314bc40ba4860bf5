/**
 * What the engine's loop and the grammar worker share: a ring from the loop to the worker, with the tokens that
 * constrained sequences have sampled, and a row for each slot, with the mask of what may come next. Neither ever
 * waits for the other to write: the loop plans without those whose mask is not there yet.
 *
 * @module
 */
import { Ring } from "../ring.ts";
import type { Sequence } from "../sequence.ts";

/** Words of the control section. */
const Word = {
  /** Counts masks and commands that became ready: what the loop sleeps on. */
  BELL: 0,
  /** Which worker the records are for; each that is started has a higher number. 0: none yet. */
  EPOCH: 1,
  /** The sequence whose mask is being made, 0 for none, and since when. */
  BUSY_SEQUENCE: 2,
  BUSY_SINCE: 3,
  COUNT: 16,
} as const;

const RING_WORDS = 1 << 16;
/** Words of a record before its tokens: epoch, sequence, grammar, slot, version, tokens known before, count. */
const RECORD_WORDS = 7;
/** A record whose slot is this closes its sequence. */
const CLOSE = -1;

/** Sizes of a board: plain data that survives postMessage. */
export interface BoardMemory {
  ring: SharedArrayBuffer;
  cells: SharedArrayBuffer;
  slots: number;
  /** Words of a mask. */
  words: number;
}

/** Shared memory for an engine with so many slots, tokens of context and ids. */
export function allocateBoard(slots: number, maxContext: number, vocab: number): BoardMemory {
  const words = Math.ceil(vocab / 32);
  return {
    ring: Ring.allocate(Math.max(RING_WORDS, 2 * maxContext)),
    cells: new SharedArrayBuffer((Word.COUNT + slots + slots * words) * 4),
    slots,
    words,
  };
}

class Board {
  readonly control: Int32Array;
  /** The version of each slot's mask. */
  readonly versions: Int32Array;
  readonly masks: readonly Uint32Array[];

  constructor({ cells, slots, words }: BoardMemory) {
    this.control = new Int32Array(cells, 0, Word.COUNT);
    this.versions = new Int32Array(cells, Word.COUNT * 4, slots);
    const first = (Word.COUNT + slots) * 4;
    this.masks = Array.from(
      { length: slots },
      (_, i) => new Uint32Array(cells, first + i * words * 4, words),
    );
  }

  ring(): void {
    Atomics.add(this.control, Word.BELL, 1);
    Atomics.notify(this.control, Word.BELL);
  }
}

/** The loop's end. Nothing here allocates. */
export class MaskClient {
  readonly #board: Board;
  readonly #ring: Ring;
  #version = 0;
  /** The bell as of the last plan but one, and the last. */
  #heard = 0;
  #bell = 0;
  /** Ids of ended sequences that the worker has yet to hear of. */
  readonly #closing: number[] = [];

  constructor(memory: BoardMemory) {
    this.#board = new Board(memory);
    this.#ring = new Ring(memory.ring);
  }

  /** A plan begins. */
  begin(): void {
    this.#heard = this.#bell;
    this.#bell = Atomics.load(this.#board.control, Word.BELL);
    while (this.#closing.length > 0 && this.#close(this.#closing[this.#closing.length - 1]!)) {
      this.#closing.pop();
    }
  }

  /** Whether the sequence's mask is there: all its tokens are known, and the worker has seen them. */
  ready(sequence: Sequence): boolean {
    if (sequence.pending > 0 || !this.tell(sequence)) return false;
    return Atomics.load(this.#board.versions, sequence.slot) === sequence.maskVersion;
  }

  /** The mask of a sequence that is ready. */
  mask(sequence: Sequence): Uint32Array {
    return this.#board.masks[sequence.slot]!;
  }

  /** Tells the worker what it does not know of a running sequence; false when that has to wait. */
  tell(sequence: Sequence): boolean {
    const epoch = Atomics.load(this.#board.control, Word.EPOCH);
    if (sequence.maskEpoch !== epoch) {
      sequence.told = -1;
      sequence.maskEpoch = epoch;
    }
    const generated = sequence.generated;
    if (sequence.told === generated && sequence.maskSlot === sequence.slot) return true;
    const known = Math.max(0, sequence.told);
    if (epoch === 0 || !this.#ring.hasRoom(RECORD_WORDS + generated - known)) {
      sequence.told = -1; // later, from the beginning
      return false;
    }
    this.#version = (this.#version + 1) | 0;
    this.#head(epoch, sequence.id, sequence.grammar, sequence.slot, known, generated - known);
    for (let i = known; i < generated; i++) this.#ring.put(sequence.tokens[sequence.promptLength + i]!);
    this.#ring.publish();
    sequence.told = generated;
    sequence.maskSlot = sequence.slot;
    sequence.maskVersion = this.#version;
    return true;
  }

  /** The sequence has ended. */
  close(sequence: Sequence): void {
    if (sequence.maskEpoch > 0 && !this.#close(sequence.id)) this.#closing.push(sequence.id);
  }

  /** Sleeps until a mask or a command has come since the plan before the last, or the time is over. */
  wait(timeoutMs: number): void {
    Atomics.wait(this.#board.control, Word.BELL, this.#heard, timeoutMs);
  }

  #close(id: number): boolean {
    if (!this.#ring.hasRoom(RECORD_WORDS)) return false;
    this.#head(Atomics.load(this.#board.control, Word.EPOCH), id, 0, CLOSE, 0, 0);
    this.#ring.publish();
    return true;
  }

  #head(epoch: number, id: number, grammar: number, slot: number, known: number, count: number): void {
    this.#ring.put(epoch);
    this.#ring.put(id);
    this.#ring.put(grammar);
    this.#ring.put(slot);
    this.#ring.put(this.#version);
    this.#ring.put(known);
    this.#ring.put(count);
  }
}

/** One record of the ring. Reused. */
export class MaskRequest {
  epoch = 0;
  sequence = 0;
  grammar = 0;
  slot = 0;
  version = 0;
  /** Tokens that were told before. */
  known = 0;
  readonly tokens: number[] = [];

  get closes(): boolean {
    return this.slot === CLOSE;
  }
}

/** The worker's end. */
export class MaskServer {
  readonly #board: Board;
  readonly #ring: Ring;
  readonly #epoch: number;

  constructor(memory: BoardMemory, epoch: number) {
    this.#board = new Board(memory);
    this.#ring = new Ring(memory.ring);
    this.#ring.resume();
    this.#epoch = epoch;
  }

  /** The next record that is for this worker; false when there is none. */
  take(request: MaskRequest): boolean {
    while (this.#ring.available > 0) {
      request.epoch = this.#ring.take();
      request.sequence = this.#ring.take();
      request.grammar = this.#ring.take();
      request.slot = this.#ring.take();
      request.version = this.#ring.take();
      request.known = this.#ring.take();
      const count = this.#ring.take();
      request.tokens.length = 0;
      for (let i = 0; i < count; i++) request.tokens.push(this.#ring.take());
      this.#ring.release();
      if (request.epoch === this.#epoch) return true;
    }
    return false;
  }

  /** Gives a slot its mask and wakes the loop. */
  publish(request: MaskRequest, mask: Int32Array | Uint32Array): void {
    if (Atomics.load(this.#board.control, Word.EPOCH) !== this.#epoch) return;
    this.#board.masks[request.slot]!.set(mask);
    Atomics.store(this.#board.versions, request.slot, request.version);
    this.#board.ring();
  }

  /** Says whose mask is being made: 0 for nobody's. */
  busy(sequence: number): void {
    Atomics.store(this.#board.control, Word.BUSY_SINCE, Date.now() | 0);
    Atomics.store(this.#board.control, Word.BUSY_SEQUENCE, sequence);
  }

  /** Blocks until there is a record, or the time is over. */
  wait(timeoutMs: number): void {
    this.#ring.wait(timeoutMs);
  }

  /** The same without blocking. */
  waitAsync(timeoutMs: number): Promise<void> {
    return this.#ring.waitAsync(timeoutMs);
  }
}

/** The end of the server's isolate, which starts workers and wakes the loop. */
export class BoardOwner {
  readonly #board: Board;

  constructor(readonly memory: BoardMemory) {
    this.#board = new Board(memory);
  }

  /** The worker of this epoch is ready: records are for it from here on. */
  startEpoch(epoch: number): void {
    Atomics.store(this.#board.control, Word.BUSY_SEQUENCE, 0);
    Atomics.store(this.#board.control, Word.EPOCH, epoch);
    this.#board.ring();
  }

  /** Wakes the loop if it sleeps until a mask is there. */
  ring(): void {
    this.#board.ring();
  }

  /** The sequence whose mask has been in the making for longer than this; 0 when all is well. */
  stuck(limitMs: number): number {
    const sequence = Atomics.load(this.#board.control, Word.BUSY_SEQUENCE);
    const age = ((Date.now() | 0) - Atomics.load(this.#board.control, Word.BUSY_SINCE)) | 0;
    return sequence !== 0 && age > limitMs ? sequence : 0;
  }
}
