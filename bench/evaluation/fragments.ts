/**
 * Histories cut into runs of a chosen length, to time what that does to a step.
 *
 * @module
 */
import { EngineHost } from "../../runtime/host.ts";
import { engineSizes } from "../../runtime/options.ts";
import { sequenceOf, SwitchedSink } from "./replay.ts";
import { MODEL, model } from "./sides.ts";

/** What is timed. */
export interface Histories {
  slots: number;
  /** Tokens of each history at the start. */
  tokens: number;
  blockTokens: number;
  /** Steps that it can decode. */
  steps: number;
}

/** An engine whose slots decode over histories in runs of `runBlocks` blocks (Infinity: one run). */
export class FragmentedEngine implements Disposable {
  readonly host: EngineHost;
  /** Bytes of a block, all layers. */
  readonly blockBytes: number;

  /** @param merge whether adjacent blocks are one group */
  constructor(readonly histories: Histories, runBlocks: number, merge = true) {
    const { slots, tokens, blockTokens, steps } = histories;
    const each = Math.ceil((tokens + steps + 2) / blockTokens);
    const run = Math.min(runBlocks, each);
    const perSlot = Math.ceil(each / run) * run;
    const combs = Math.ceil(slots * perSlot / run);
    const numBlocks = combs * (run + 1);
    const context = perSlot * blockTokens;
    const tables = model(context);
    const sizes = engineSizes(
      {
        model: "",
        slots,
        blockTokens: blockTokens as 32,
        maxContext: context,
        prefixCache: false,
        structuredOutput: false,
        mixedChunk: 256,
        mixedStretch: 0,
        inFlight: 1,
      },
      tables,
      "f16",
    );
    this.blockBytes = sizes.blockBytes;
    this.host = new EngineHost(tables, {
      ...sizes,
      native: { ...sizes.native, numBlocks, maxGroups: slots * perSlot, maxMoves: 256 },
      pager: {
        ...sizes.pager,
        numBlocks,
        merge,
        // Two slots more than the engine has: what they hold makes the comb.
        slots: slots + 2,
        maxBlocksPerSequence: numBlocks,
        maxGroupsPerSlot: numBlocks,
        reserveBlocks: 0,
        moveBudgetBlocks: 0,
        maxMoves: 256,
      },
    }, new SwitchedSink());
    this.#comb(run, combs);
    for (let i = 0; i < slots; i++) {
      const prompt = Int32Array.from(
        { length: tokens },
        (_, k) => 3 + (i * 977 + k * 31) % (MODEL.vocab - 3),
      );
      this.host.loop.submit(sequenceOf({ promptTokens: prompt, maxTokens: steps }));
    }
    const { loop, scheduler } = this.host;
    while (scheduler.running.length < slots || scheduler.running.some(({ generated }) => generated === 0)) {
      if (!loop.turn(10_000_000)) {
        throw new Error(`${slots} histories of ${tokens} tokens never ran together`);
      }
    }
  }

  /** Leaves free runs of `run` blocks with one block in use between each two. */
  #comb(run: number, combs: number): void {
    const { pager, sizes: { native: { slots, blockTokens } } } = this.host;
    const none = new Int32Array(combs * (run + 1) * blockTokens);
    const holes = pager.open(slots, none, run * blockTokens, false)!;
    const teeth = pager.open(slots + 1, none, blockTokens, false)!;
    for (let k = 2; k <= combs; k++) {
      pager.ensure(holes, k * run * blockTokens, k * run * blockTokens);
      pager.ensure(teeth, k * blockTokens, k * blockTokens);
    }
    pager.close(holes, 0);
    pager.completed(0);
  }

  /** One step; milliseconds that it ran. */
  step(): number {
    this.host.loop.turn(10_000_000);
    return this.host.loop.stats.lastExecMs;
  }

  /** Groups of a slot's history. */
  get groupsPerSlot(): number {
    return this.host.descriptor.groups / this.histories.slots;
  }

  /** From now on each step moves `count` runs of `blocks` blocks that nobody reads: the teeth of the comb. */
  moveBeside(count: number, blocks: number): void {
    const { pager, sizes: { native: { numBlocks } } } = this.host;
    const half = Math.floor(numBlocks / 2);
    if (count * blocks > half) {
      throw new RangeError(`${count} x ${blocks} blocks are more than half of ${numBlocks}`);
    }
    const writeMoves = (out: Uint32Array, at: number) => {
      for (let i = 0; i < count; i++) {
        out.set([0, i * blocks, half + i * blocks, blocks], at + 4 * i);
      }
      return count;
    };
    Object.defineProperty(pager, "writeMoves", { value: writeMoves });
  }

  [Symbol.dispose](): void {
    this.host[Symbol.dispose]();
  }
}
