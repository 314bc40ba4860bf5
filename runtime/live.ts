/**
 * What the engine looks like right now, in shared memory: whose each block of the pool is, what each slot
 * does, the latest steps. The worker writes it while somebody watches, and not otherwise.
 *
 * @module
 */
import { Owner } from "./kv/mod.ts";

/** Squares that the pool is shown as, at most; of a larger pool a square stands for several blocks. */
const MAX_CELLS = 4096;

/** Milliseconds between two pictures, at least. */
export const LIVE_INTERVAL_MS = 100;

/** Words of the head. */
export const Head = {
  /** Not 0 while somebody watches. Written by the server's isolate alone. */
  WATCHED: 0,
  /** Odd while the worker writes; 0 before the first picture. */
  VERSION: 1,
  /** Steps and moves since the start, modulo 2^32: the newest ones are in the rings. */
  STEPS: 2,
  MOVES: 3,
  WORDS: 16,
} as const;

/** Words of a slot's record. */
export const SlotField = {
  /** The sequence's id; 0 for an empty slot. */
  ID: 0,
  /** Tokens in the cache, and those of the prompt among all. */
  TOKENS: 1,
  PROMPT: 2,
  /** Tokens of the answer that are known, and how many there may be. */
  GENERATED: 3,
  MAX: 4,
  BLOCKS: 5,
  /** Transfer groups that a step reads them as. */
  GROUPS: 6,
  /** Prompt tokens that were found in the prefix cache. */
  CACHED: 7,
  WORDS: 8,
} as const;

/** Words of a step's record. */
export const StepField = {
  STEP: 0,
  /** Slots that decode, and tokens of prompts. */
  DECODE: 1,
  PROMPT: 2,
  /** Blocks read, and the groups that they were merged into. */
  BLOCKS: 3,
  GROUPS: 4,
  /** Blocks copied because somebody writes to what others read, and blocks staged. */
  COPIED: 5,
  STAGED: 6,
  /** Microseconds of planning, and on the device; -1 while the step runs. */
  PLAN_US: 7,
  EXEC_US: 8,
  WORDS: 9,
} as const;

/** Words of a move's record: blocks. */
export const MoveField = { FROM: 0, TO: 1, COUNT: 2, WORDS: 3 } as const;

/** Steps and moves that are kept. */
export const STEP_RING = 64;
export const MOVE_RING = 64;

/** The size of what is shown. */
export interface LiveShape {
  slots: number;
  blocks: number;
}

/** The shared memory as arrays: both sides know its shape. */
export class LiveMemory {
  readonly head: Int32Array<SharedArrayBuffer>;
  readonly slots: Int32Array<SharedArrayBuffer>;
  readonly steps: Int32Array<SharedArrayBuffer>;
  readonly moves: Int32Array<SharedArrayBuffer>;
  /** One for each square: the {@link Owner} of the liveliest of its blocks. */
  readonly cells: Uint16Array<SharedArrayBuffer>;
  /** Blocks that a square stands for. */
  readonly blocksPerCell: number;

  constructor(readonly buffer: SharedArrayBuffer, readonly shape: LiveShape) {
    let at = 0;
    const take = (words: number) => new Int32Array(buffer, at * 4, (at += words, words));
    this.blocksPerCell = Math.ceil(shape.blocks / MAX_CELLS);
    this.head = take(Head.WORDS);
    this.slots = take(shape.slots * SlotField.WORDS);
    this.steps = take(STEP_RING * StepField.WORDS);
    this.moves = take(MOVE_RING * MoveField.WORDS);
    this.cells = new Uint16Array(buffer, at * 4, Math.ceil(shape.blocks / this.blocksPerCell));
  }

  /** Shared memory for a pool of any size. */
  static allocate({ slots }: Pick<LiveShape, "slots">): SharedArrayBuffer {
    const words = Head.WORDS + slots * SlotField.WORDS + STEP_RING * StepField.WORDS +
      MOVE_RING * MoveField.WORDS;
    return new SharedArrayBuffer(words * 4 + MAX_CELLS * 2);
  }
}

/** How much of a square's colour an owner claims: a sequence more than what is only kept. */
export function rankOf(owner: number): number {
  if (owner >= Owner.RESERVED) return 2;
  if (owner >= Owner.SLOT) return 5;
  return owner === Owner.SHARED ? 4 : owner === Owner.LEAVING ? 3 : owner === Owner.CACHED ? 1 : 0;
}

/** What is to be seen at one moment. */
export interface LivePicture {
  /** Goes up with every picture. */
  version: number;
  /** The squares as runs: owner, how many, owner, how many. See {@link Owner}. */
  cells: number[];
  /** A record of {@link SlotField} for each slot. */
  slots: number[][];
  /** Records of {@link StepField}, oldest first: steps since the last picture, or the newest of them. */
  steps: number[][];
  /** The same of {@link MoveField}. */
  moves: number[][];
}

/** What there is to see of an engine that runs. */
export interface EngineLive {
  /** Squares that the pool is shown as. */
  readonly cells: number;
  /** Blocks that each of them stands for. */
  readonly blocksPerCell: number;
  /** Goes up with every picture; stands still while nobody watches. */
  readonly version: number;
  /** Whether somebody watches. */
  readonly watched: boolean;
  /** Has pictures made until the result is called. */
  watch(): () => void;
  /** The latest picture; null before the first, or while one is being made. */
  read(): LivePicture | null;
}

/** The server's side: says that somebody watches, and reads. */
export class LiveView implements EngineLive {
  readonly #memory: LiveMemory;
  #watchers = 0;
  #steps = 0;
  #moves = 0;

  constructor(memory: LiveMemory) {
    this.#memory = memory;
  }

  get cells(): number {
    return this.#memory.cells.length;
  }

  get blocksPerCell(): number {
    return this.#memory.blocksPerCell;
  }

  get version(): number {
    return Atomics.load(this.#memory.head, Head.VERSION);
  }

  get watched(): boolean {
    return this.#watchers > 0;
  }

  watch(): () => void {
    if (this.#watchers++ === 0) {
      const { head } = this.#memory;
      this.#steps = head[Head.STEPS]!;
      this.#moves = head[Head.MOVES]!;
      Atomics.store(head, Head.WATCHED, 1);
    }
    let watches = true;
    return () => {
      if (!watches) return;
      watches = false;
      if (--this.#watchers === 0) Atomics.store(this.#memory.head, Head.WATCHED, 0);
    };
  }

  read(): LivePicture | null {
    const { head, slots, steps, moves, cells } = this.#memory;
    const version = this.version;
    if (version === 0 || (version & 1) === 1) return null;
    const [newStep, newMove] = [head[Head.STEPS]!, head[Head.MOVES]!];
    const picture = {
      version,
      cells: runs(cells),
      slots: records(slots, SlotField.WORDS, 0, slots.length / SlotField.WORDS),
      steps: latest(steps, StepField.WORDS, STEP_RING, this.#steps, newStep),
      moves: latest(moves, MoveField.WORDS, MOVE_RING, this.#moves, newMove),
    };
    if (this.version !== version) return null;
    this.#steps = newStep;
    this.#moves = newMove;
    return picture;
  }
}

function runs(cells: Uint16Array): number[] {
  const out: number[] = [];
  for (let i = 0; i < cells.length;) {
    const owner = cells[i]!;
    let end = i + 1;
    while (end < cells.length && cells[end] === owner) end++;
    out.push(owner, end - i);
    i = end;
  }
  return out;
}

function records(words: Int32Array, size: number, first: number, count: number): number[][] {
  const capacity = words.length / size;
  return Array.from({ length: count }, (_, i) => {
    const at = (first + i) % capacity * size;
    return Array.from(words.subarray(at, at + size));
  });
}

/** The records numbered from `seen` to `end`, as many as the ring still has. */
function latest(words: Int32Array, size: number, ring: number, seen: number, end: number): number[][] {
  const count = Math.min((end - seen) >>> 0, ring);
  return records(words, size, (end - count) >>> 0, count);
}
