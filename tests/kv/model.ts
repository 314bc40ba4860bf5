/**
 * A plain model of what a pager promises: physical memory with a tag for every token, steps that execute in
 * commit order some time after they were planned, and a random driver.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  type BlockMap,
  BlockPager,
  type FarHistory,
  type PagerOptions,
  SummaryKind,
} from "../../runtime/kv/mod.ts";

/** A seeded generator of numbers in [0, 1): mulberry32. */
export function random(seed: number): () => number {
  let a = seed | 0;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

interface Sequence {
  slot: number;
  map: BlockMap;
  /** tags[i] stands for tokens[0..i]: what the KV of position i depends on. */
  tokens: Int32Array;
  tags: Float64Array;
  /** Tokens that are decided. */
  known: number;
  /** Tokens whose KV committed steps write. */
  written: number;
  lastStep: number;
  /** Physical blocks as of the last look, by logical block: to tell new ones. */
  seen: Map<number, number>;
}

/** A block that becomes summary rows. */
interface Summary {
  slot: number;
  block: number;
  /** Of its tokens. */
  tags: Float64Array;
}

interface Row {
  slot: number;
  /** Physical block of each logical block, from the groups. */
  blocks: Map<number, number>;
  tags: Float64Array;
  from: number;
  writeFrom: number;
  end: number;
}

interface Step {
  number: number;
  moves: { from: number; to: number }[];
  summaries: Summary[];
  rows: Row[];
}

/** How a run of the driver is set up. */
export interface ModelOptions extends PagerOptions {
  seed: number;
  /** Sliding window in blocks; 0: none. */
  windowBlocks: number;
}

/** Drives a pager at random and checks everything it does. */
export class PagerModel {
  readonly pager: BlockPager;
  /** Calls of the pager's methods so far. */
  operations = 0;
  /** How often something interesting happened. */
  readonly seen = {
    givenUp: 0,
    failedEnsures: 0,
    failedOpens: 0,
    forks: 0,
    matches: 0,
    promises: 0,
    forgone: 0,
    moves: 0,
    preemptions: 0,
  };
  readonly #rnd: () => number;
  readonly #memory: Float64Array;
  readonly #lastTouch: Float64Array;
  readonly #sequences: (Sequence | null)[];
  readonly #queue: Step[] = [];
  /** What sequences that ended lately consisted of. */
  readonly #past: Int32Array[] = [];
  readonly #groups: Uint32Array;
  readonly #moves: Uint32Array;
  readonly #words: Uint32Array;
  /** Blocks given up since the last commit, in order. */
  #givenUp: Summary[] = [];
  /** For each slot and summary row the blocks that it stands for, counted from the first that was given up. */
  readonly #far: number[][][];
  #step = 0;
  #completed = 0;

  constructor(readonly options: ModelOptions) {
    this.pager = new BlockPager(options);
    this.#rnd = random(options.seed);
    this.#memory = new Float64Array(options.numBlocks * options.blockTokens);
    this.#lastTouch = new Float64Array(options.numBlocks);
    this.#sequences = new Array(options.slots).fill(null);
    this.#groups = new Uint32Array(4 * (options.maxBlocksPerSequence + 3));
    this.#words = new Uint32Array(4 * (options.far?.maxSummaries ?? 0));
    this.#far = Array.from({ length: options.slots }, () => []);
    this.#moves = new Uint32Array(4 * 256);
  }

  /** Plans and commits one step, between random other operations. */
  turn(): void {
    const t = ++this.#step;
    this.#complete(t - 1 - this.#int(3));
    if (this.#chance(0.02)) this.#call(() => this.pager.dropCache());
    for (const sequence of this.#open()) {
      if (this.#chance(0.02)) this.#close(sequence);
      else if (this.#chance(0.05)) this.#forgo(sequence);
    }
    while (this.#chance(0.5)) this.#start();
    if (this.#chance(0.2)) this.#fork();
    for (const sequence of this.#open()) {
      if (this.#chance(0.5)) {
        this.#call(() => this.pager.publish(sequence.map, sequence.tokens, sequence.written));
      }
      if (this.options.windowBlocks > 0 && this.#chance(0.5)) {
        const from = sequence.written - this.options.windowBlocks * this.options.blockTokens;
        if (from > 0) this.#call(() => this.pager.releaseBefore(sequence.map, from));
      }
    }
    const rows: { sequence: Sequence; end: number }[] = [];
    for (const sequence of this.#open()) {
      if (sequence.map.open && this.#sequences[sequence.slot] === sequence && this.#chance(0.8)) {
        this.#plan(sequence, rows);
      }
    }
    // A child of a sequence that is part of this step already may take part, too.
    const child = this.#chance(0.2) ? this.#fork() : null;
    if (child !== null && this.#chance(0.5)) this.#plan(child, rows);
    // A plan without rows is not committed; its copies stay pending.
    if (rows.length === 0 && this.pager.summaries === 0 && this.#chance(0.5)) this.#step--;
    else {
      this.#commit(t, rows);
      assertEquals(this.pager.stats.moving, 0);
    }
    if (this.#chance(0.1)) this.#call(() => this.pager.checkInvariants());
    this.#checkCounts();
  }

  /** Ends everything and checks that nothing leaked. */
  finish(): void {
    for (const sequence of this.#open()) this.#close(sequence);
    // One step more: blocks may have been given up for one that was planned, but never committed.
    this.#complete(++this.#step);
    const { stats } = this.pager;
    this.pager.checkInvariants();
    assertEquals([stats.active, stats.inFlight, stats.moving], [0, 0, 0]);
    assertEquals([stats.reserved, stats.shared], [0, 0]);
    assertEquals(stats.free + stats.cached, stats.total);
    this.pager.dropCache();
    this.pager.checkInvariants();
    assertEquals(stats.free, stats.total);
  }

  #start(): void {
    const slot = this.#sequences.indexOf(null);
    if (slot < 0) return;
    const { blockTokens, maxBlocksPerSequence } = this.options;
    const limit = maxBlocksPerSequence * blockTokens;
    let count = 1 + this.#int(this.#chance(0.1) ? limit : Math.min(limit, 12 * blockTokens));
    const tokens = new Int32Array(limit);
    // Few different tokens, in runs, or what an earlier sequence began with: prefixes of every length.
    const kind = this.#int(3);
    for (let i = 0; i < count; i++) tokens[i] = this.#chance(0.02) ? this.#int(3) : kind;
    const earlier = this.#chance(0.5) ? this.#past[this.#int(this.#past.length)] : undefined;
    if (earlier !== undefined) {
      const common = Math.min(limit, 1 + this.#int(earlier.length));
      tokens.set(earlier.subarray(0, common));
      count = Math.min(limit, common + this.#int(blockTokens * 2));
    }
    const reuse = this.#chance(0.9);
    const admit = this.#call(() => this.pager.canAdmit(tokens, count, reuse));
    if (!admit && this.#chance(0.7)) return;
    const ahead = this.#chance(0.5) ? Infinity : 1 + this.#int(2 * count);
    const map = this.#call(() => this.pager.open(slot, tokens, count, reuse, ahead));
    if (map === null) {
      this.seen.failedOpens++;
      assert(!admit || this.options.mode === "kv-rm", "open() refused what canAdmit() promised");
      return;
    }
    const matched = this.pager.matchedTokens(map);
    assert(matched < count && matched % blockTokens === 0, `matched ${matched} of ${count} tokens`);
    assert(reuse || matched === 0, "matched although no reuse was wanted");
    const { far } = this.pager;
    const all = far?.blocksAhead(matched, count) ?? Math.ceil(count / blockTokens);
    const mapped = far === null ? Math.ceil(Math.min(count, matched + ahead) / blockTokens) : all;
    assertEquals([map.firstBlock, map.blockCount + map.promised], [0, all]);
    if (this.options.mode === "paged") assertEquals(map.blockCount, mapped);
    assert(map.blockCount >= mapped && (map.reserve >= map.promised || this.options.mode === "paged"));
    if (map.promised > 0) this.seen.promises++;
    if (matched > 0) this.seen.matches++;
    const tags = new Float64Array(limit);
    const sequence: Sequence = {
      slot,
      map,
      tokens,
      tags,
      known: 0,
      written: matched,
      lastStep: 0,
      seen: new Map(),
    };
    for (let i = 0; i < count; i++) this.#decide(sequence, tokens[i]!);
    for (let b = 0; b < matched / blockTokens; b++) sequence.seen.set(b, map.physical(b));
    this.#sequences[slot] = sequence;
  }

  #fork(): Sequence | null {
    const slot = this.#sequences.indexOf(null);
    const parents = this.#open().filter((s) => s.written > s.map.firstBlock * this.options.blockTokens);
    if (slot < 0 || parents.length === 0) return null;
    const parent = parents[this.#int(parents.length)]!;
    const low = parent.map.firstBlock * this.options.blockTokens;
    const count = this.#chance(0.5) ? parent.written : low + 1 + this.#int(parent.written - low);
    const map = this.#call(() => this.pager.fork(parent.map, slot, count));
    if (map === null) return null;
    this.seen.forks++;
    const sequence: Sequence = {
      ...parent,
      slot,
      map,
      tokens: parent.tokens.slice(),
      tags: parent.tags.slice(),
      known: count,
      written: count,
      lastStep: 0,
      seen: new Map(),
    };
    for (let b = map.firstBlock; b < map.blockCount; b++) {
      assert(map.has(b), "fork() shared a sequence with summary rows");
      assertEquals(map.physical(b), parent.map.physical(b));
      sequence.seen.set(b, map.physical(b));
    }
    return this.#sequences[slot] = sequence;
  }

  #close(sequence: Sequence): void {
    this.#call(() => this.pager.close(sequence.map, sequence.lastStep));
    if (this.#past.push(sequence.tokens.subarray(0, sequence.known)) > 8) this.#past.shift();
    this.#sequences[sequence.slot] = null;
  }

  #plan(sequence: Sequence, rows: { sequence: Sequence; end: number }[]): void {
    const { blockTokens, maxBlocksPerSequence } = this.options;
    if (sequence.written === maxBlocksPerSequence * blockTokens) return this.#close(sequence);
    if (sequence.written === sequence.known) this.#decide(sequence, this.#int(2));
    if (!this.#giveUp(sequence)) return;
    const stride = this.pager.far?.nextStride(sequence.written) ?? Infinity;
    const end = Math.min(sequence.known, stride, sequence.written + 1 + this.#int(3 * blockTokens));
    while (!this.#call(() => this.pager.ensure(sequence.map, end, sequence.written))) {
      this.seen.failedEnsures++;
      this.#checkPromise(sequence, end);
      const others = this.#open().filter((other) => !rows.some((row) => row.sequence === other));
      if (this.#chance(0.3) || others.length === 0) return;
      const victim = others[this.#int(others.length)]!;
      if (this.#chance(0.5) && this.#forgo(victim)) continue;
      this.seen.preemptions++;
      this.#close(victim);
      if (victim === sequence) return;
    }
    if (this.#chance(0.04)) return this.#close(sequence); // cancelled in the middle of planning
    rows.push({ sequence, end });
  }

  #forgo({ map }: Sequence): boolean {
    const { promised } = map;
    const done = this.#call(() => this.pager.forgo(map));
    assertEquals([done, map.promised], [promised > 0, Math.max(0, promised - 1)]);
    if (done) this.seen.forgone++;
    return done;
  }

  /** Blocks that were promised can be had, but for extents that do not fit, and copies. */
  #checkPromise({ map, written }: Sequence, end: number): void {
    const { blockTokens, mode } = this.options;
    const more = Math.ceil(end / blockTokens) - map.blockCount;
    const isPlain = mode === "paged" && written >= map.blockCount * blockTokens;
    assert(!isPlain || more > map.promised, `${more} of ${map.promised} promised blocks could not be had`);
  }

  #giveUp({ map, slot, tags, written }: Sequence): boolean {
    const { far } = this.pager;
    if (far === null) return true;
    const { blockTokens } = this.options;
    const before = map.gapEnd - map.gapStart;
    const blocks = Array.from({ length: map.blockCount }, (_, b) => map.has(b) ? map.physical(b) : -1);
    const done = this.#call(() => this.pager.giveUp(map, written, this.#step));
    const gap = map.gapEnd - map.gapStart;
    assert(done ? gap === far.farBlocks(written) : gap < far.farBlocks(written), `a gap of ${gap} blocks`);
    for (let k = before; k < gap; k++) {
      const logical = far.sinks + k;
      assert(!map.has(logical));
      this.seen.givenUp++;
      if (far.rows === 0) continue;
      const own = tags.slice(logical * blockTokens, (logical + 1) * blockTokens);
      this.#givenUp.push({ slot, block: blocks[logical]!, tags: own });
    }
    return done;
  }

  /** Takes the operations on summary rows, and checks that each is one that was asked for. */
  #takeSummaries(step: Step): void {
    const { far } = this.pager;
    if (far === null) return;
    const { blockTokens } = this.options;
    const count = this.#call(() => this.pager.writeSummaries(this.#words, 0, this.options.far!.maxSummaries));
    for (let i = 0; i < count; i++) {
      const [word, row, source, tokens] = this.#words.subarray(i * 4, i * 4 + 4);
      const rows = this.#far[word! & 0xffff]!;
      if (word! >>> 16 === SummaryKind.CLEAR) rows.length = 0;
      else if (word! >>> 16 === SummaryKind.MERGE) rows[row!]!.push(...rows[source!]!);
      else {
        const wanted = this.#givenUp[step.summaries.length]!;
        assertEquals([word! & 0xffff, source, tokens], [wanted.slot, wanted.block, blockTokens << 16]);
        assert(row! <= rows.length && row! < far.rows, `row ${row}`);
        // What a row stood for is in row 0 by now.
        const all = row! < rows.length ? rows[0]!.length + rows.length - 2 : rows.length;
        rows[row!] = [all];
        step.summaries.push(wanted);
        this.#lastTouch[source!] = step.number;
      }
    }
    assertEquals(step.summaries.length, this.#givenUp.length);
    this.#givenUp = [];
  }

  #commit(t: number, rows: { sequence: Sequence; end: number }[]): void {
    const { blockTokens, mode, maxGroupsPerSlot, slots } = this.options;
    const maps = this.#sequences.map((sequence) => sequence?.map ?? null);
    this.#call(() => this.pager.planMoves(maps, t));
    const step: Step = { number: t, moves: [], summaries: [], rows: [] };
    const { far } = this.pager;
    const more = far === null ? 0 : 1;
    const owners = new Map<number, Sequence[]>();
    for (const sequence of this.#open()) {
      const { map, seen } = sequence;
      if (mode === "kv-rm") assert(map.extentCount <= maxGroupsPerSlot + more, `${map.extentCount} groups`);
      for (let b = map.firstBlock; b < map.blockCount; b++) {
        if (!map.has(b)) continue;
        const block = map.physical(b);
        owners.set(block, [...owners.get(block) ?? [], sequence]);
        if (seen.get(b) === block) continue;
        seen.set(b, block);
        if (mode === "static") {
          assertEquals(block, sequence.slot * this.options.maxBlocksPerSequence + b);
        } else {
          const touched = this.#lastTouch[block]!;
          assert(
            touched <= this.#completed,
            `step ${t}: block ${block} is handed out, but step ${touched} touches it`,
          );
        }
      }
    }
    this.#takeSummaries(step);
    for (const { sequence, end } of rows) {
      if (this.#sequences[sequence.slot] !== sequence) continue;
      const { map, slot } = sequence;
      const blocks = Math.ceil(end / blockTokens);
      const room = (mode === "kv-rm" ? maxGroupsPerSlot : this.options.maxBlocksPerSequence) + 2 * more;
      const groups = this.#call(() => map.writeGroups(this.#groups, 4, slot, blocks, room));
      assert(groups > 0, `writeGroups() gave ${groups}`);
      const physical = new Map<number, number>();
      let logical = map.firstBlock;
      for (let g = 0; g < groups; g++) {
        const [word, start, first, count] = this.#groups.subarray(4 + g * 4, 8 + g * 4);
        if (far !== null && word === (slot | 1 << 16)) {
          assertEquals([start, logical, first], [far.sinks, far.sinks, 0]);
          assertEquals(count, Math.min(far.rows, far.farBlocks(sequence.written)));
          logical += far.farBlocks(sequence.written);
          this.#checkRows(this.#far[slot]!, far, sequence.written);
          continue;
        }
        assertEquals([word, start], [slot, logical]);
        if (mode === "paged") assertEquals(count, 1);
        for (let k = 0; k < count!; k++) physical.set(logical++, first! + k);
      }
      assertEquals(logical, blocks);
      for (let b = Math.floor(sequence.written / blockTokens); b < blocks; b++) {
        for (const other of owners.get(physical.get(b)!)!) {
          // A fork between ensure() and the commit shares the block, but not what is written now.
          const isHarmed = other !== sequence && (other.lastStep > 0 || other.written > sequence.written);
          assert(!isHarmed, `step ${t} writes into a block of slots ${slot} and ${other.slot}`);
        }
      }
      for (const block of physical.values()) this.#lastTouch[block] = t;
      step.rows.push({
        slot,
        blocks: physical,
        tags: sequence.tags,
        from: map.firstBlock * blockTokens,
        writeFrom: sequence.written,
        end,
      });
      sequence.written = end;
      sequence.lastStep = t;
    }
    const count = this.#call(() => this.pager.writeMoves(this.#moves, 0, slots + 64));
    const sources = new Set<number>();
    const targets = new Set<number>();
    for (let m = 0; m < count; m++) {
      const [tiers, from, to, length] = this.#moves.subarray(m * 4, m * 4 + 4);
      assertEquals(tiers, 0);
      for (let k = 0; k < length!; k++) {
        assert(!targets.has(to! + k), `step ${t}: two moves to block ${to! + k}`);
        sources.add(from! + k);
        targets.add(to! + k);
        step.moves.push({ from: from! + k, to: to! + k });
        this.#lastTouch[from! + k] = this.#lastTouch[to! + k] = t;
      }
    }
    for (const block of targets) assert(!sources.has(block), `step ${t}: block ${block} is moved both ways`);
    this.seen.moves += count;
    this.#queue.push(step);
  }

  /** Row 0 stands for the oldest blocks, each other row for one of the newest, and together they are all. */
  #checkRows(rows: number[][], far: FarHistory, position: number): void {
    if (far.rows === 0) return;
    const blocks = far.farBlocks(position);
    assertEquals(rows.flat().sort((a, b) => a - b), Array.from({ length: blocks }, (_, k) => k));
    for (const row of rows.slice(1)) assertEquals(row.length, 1);
    assertEquals([...rows[0]!].sort((a, b) => a - b), Array.from({ length: rows[0]!.length }, (_, k) => k));
    assertEquals(rows.length, Math.min(far.rows, blocks));
  }

  #complete(step: number): void {
    while (this.#queue.length > 0 && this.#queue[0]!.number <= step) this.#execute(this.#queue.shift()!);
    if (step <= this.#completed) return;
    this.#completed = step;
    this.#call(() => this.pager.completed(step));
  }

  #execute(step: Step): void {
    const { blockTokens } = this.options;
    const memory = this.#memory;
    const copies = step.moves.map(({ from }) => memory.slice(from * blockTokens, (from + 1) * blockTokens));
    step.moves.forEach(({ to }, i) => memory.set(copies[i]!, to * blockTokens));
    const at = (row: Row, position: number) =>
      row.blocks.get(Math.floor(position / blockTokens))! * blockTokens + position % blockTokens;
    for (const { block, tags, slot } of step.summaries) {
      tags.forEach((tag, i) => {
        if (memory[block * blockTokens + i] === tag) return;
        throw new Error(`step ${step.number}, slot ${slot}: a summary of block ${block} is of other tokens`);
      });
    }
    for (const row of step.rows) {
      for (let p = row.writeFrom; p < row.end; p++) memory[at(row, p)] = row.tags[p]!;
    }
    for (const row of step.rows) {
      for (let p = row.from; p < row.end; p++) {
        if (!row.blocks.has(Math.floor(p / blockTokens))) continue; // given up
        if (memory[at(row, p)] === row.tags[p]) continue;
        throw new Error(`step ${step.number}, slot ${row.slot}: position ${p} reads what is not its own`);
      }
    }
  }

  #decide(sequence: Sequence, token: number): void {
    const i = sequence.known++;
    sequence.tokens[i] = token;
    const before = i === 0 ? 1 : sequence.tags[i - 1]!;
    sequence.tags[i] = (before * 31 + token * 7919 + i + 17) % 9007199254740881 % 4398042316799;
  }

  #checkCounts(): void {
    const { total, active, cached, inFlight, moving, reserved, free } = this.pager.stats;
    assertEquals(active + cached + inFlight + moving + reserved + free, total);
    assertEquals(this.pager.stats.sequences, this.#open().length);
  }

  #open(): Sequence[] {
    return this.#sequences.filter((sequence) => sequence !== null);
  }

  #call<T>(operation: () => T): T {
    this.operations++;
    return operation();
  }

  #chance(probability: number): boolean {
    return this.#rnd() < probability;
  }

  #int(limit: number): number {
    return Math.floor(this.#rnd() * limit);
  }
}
