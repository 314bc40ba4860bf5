/**
 * Puts an engine together: native engine or simulated one, pager, scheduler, loop. Used by the worker, and by tests
 * and benchmarks that want the loop in their own thread.
 *
 * @module
 */
import { libraryPath, NativeEngine, NativeLibrary, NativeModel } from "../ffi/mod.ts";
import { ChunkBudget } from "./chunk_budget.ts";
import { Descriptor } from "./descriptor.ts";
import { BlockPager } from "./kv/mod.ts";
import { type BoardMemory, MaskClient } from "./grammar/board.ts";
import { LiveMemory } from "./live.ts";
import { LivePublisher } from "./live_publisher.ts";
import { EngineLoop, type LoopSink, type StepEngine } from "./loop.ts";
import type { ModelTables } from "./model/folder.ts";
import { type EngineSizes, fitToMemory } from "./options.ts";
import { Scheduler } from "./scheduler.ts";
import type { StepCost } from "./sim/cost.ts";
import { SimulatedEngine, type SimulationOptions } from "./sim/engine.ts";
import type { LoopMetrics } from "./telemetry/loop_metrics.ts";

/** What a host has only where somebody wants it. */
export interface HostExtras {
  /** Where to measure into. */
  metrics?: LoopMetrics | undefined;
  /** What masks go through, where requests may have constraints. */
  board?: BoardMemory | undefined;
  /** Of a {@link LiveMemory}, where somebody can watch. */
  live?: SharedArrayBuffer | undefined;
}

/** All parts of one engine in the calling thread, above what runs its steps. */
export abstract class LoopHost<E extends StepEngine> implements Disposable {
  readonly pager: BlockPager;
  readonly scheduler: Scheduler;
  readonly descriptor: Descriptor;
  readonly loop: EngineLoop;
  /** Null where nobody can watch. */
  readonly live: LivePublisher | null;

  /** @param sizes with the pool that the memory had room for */
  protected constructor(
    readonly engine: E,
    readonly sizes: EngineSizes,
    sink: LoopSink,
    { metrics, board, live }: HostExtras,
  ) {
    this.pager = new BlockPager(sizes.pager);
    const masks = board === undefined ? null : new MaskClient(board);
    this.scheduler = new Scheduler(this.pager, sizes.scheduler, masks);
    const { slots, numBlocks: blocks } = sizes.native;
    this.live = live === undefined ? null : new LivePublisher(new LiveMemory(live, { slots, blocks }), {
      pager: this.pager,
      scheduler: this.scheduler,
      blocks,
      paged: sizes.kvMode === "paged",
    });
    const budget = sizes.mixedStretch > 0 ? new ChunkBudget(slots, sizes.mixedStretch) : null;
    this.scheduler.budget = budget;
    this.descriptor = new Descriptor(engine.info, sizes.native, masks);
    this.loop = new EngineLoop({
      engine,
      pager: this.pager,
      scheduler: this.scheduler,
      descriptor: this.descriptor,
      sink,
      slots,
      inFlight: sizes.inFlight,
      metrics,
      masks,
      live: this.live,
      budget,
    });
  }

  /** What runs the steps, e.g. "cpu/AVX3_DL". */
  abstract get backend(): string;

  /** The counters of kvrm.h, in its order. */
  abstract counters(out: Float64Array<ArrayBuffer>): void;

  abstract [Symbol.dispose](): void;
}

/** A host whose steps the native library runs. */
export class EngineHost extends LoopHost<NativeEngine> {
  readonly library: NativeLibrary;
  readonly model: NativeModel;

  /** @throws {NativeError} what the library refuses; nothing stays allocated */
  constructor(
    tables: ModelTables,
    wanted: EngineSizes,
    sink: LoopSink,
    path?: string,
    extras: HostExtras = {},
  ) {
    using undo = new DisposableStack();
    const library = undo.use(new NativeLibrary(libraryPath("cpu", path)));
    const model = undo.use(library.loadModel(tables, wanted.model));
    const sizes = fitToMemory(wanted, model.memory().free);
    super(undo.use(model.createEngine(sizes.native)), sizes, sink, extras);
    this.library = library;
    this.model = model;
    undo.move();
  }

  get backend(): string {
    return this.library.backend;
  }

  counters(out: Float64Array<ArrayBuffer>): void {
    this.engine.counters(out);
  }

  [Symbol.dispose](): void {
    this.engine[Symbol.dispose]();
    this.model[Symbol.dispose]();
    this.library[Symbol.dispose]();
  }
}

/** A host whose steps compute nothing and take the time that their cost says. */
export class SimulatedHost extends LoopHost<SimulatedEngine> {
  /** @param name of what is simulated, for `backend` */
  constructor(
    sizes: EngineSizes,
    vocab: number,
    cost: StepCost,
    sink: LoopSink,
    readonly name = "",
    options: SimulationOptions = {},
    extras: HostExtras = {},
  ) {
    super(new SimulatedEngine(sizes.native, vocab, cost, options), sizes, sink, extras);
  }

  get backend(): string {
    return `sim/${this.name}`;
  }

  counters(out: Float64Array<ArrayBuffer>): void {
    this.engine.counters(out);
  }

  [Symbol.dispose](): void {}
}
