/**
 * Puts an engine together: library, model, native engine, pager, scheduler, loop. Used by the worker, and
 * by tests and benchmarks that want the loop in their own thread.
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
import { EngineLoop, type LoopSink } from "./loop.ts";
import type { ModelTables } from "./model/folder.ts";
import { type EngineSizes, fitToMemory } from "./options.ts";
import { Scheduler } from "./scheduler.ts";
import type { LoopMetrics } from "./telemetry/loop_metrics.ts";

/** All parts of one engine in the calling thread. */
export class EngineHost implements Disposable {
  readonly library: NativeLibrary;
  readonly model: NativeModel;
  readonly engine: NativeEngine;
  readonly pager: BlockPager;
  readonly scheduler: Scheduler;
  readonly descriptor: Descriptor;
  readonly loop: EngineLoop;
  /** Null where nobody can watch. */
  readonly live: LivePublisher | null;
  /** With the pool that the memory had room for. */
  readonly sizes: EngineSizes;

  /** @throws {NativeError} what the library refuses; nothing stays allocated */
  constructor(
    tables: ModelTables,
    wanted: EngineSizes,
    sink: LoopSink,
    library?: string,
    metrics?: LoopMetrics,
    board?: BoardMemory,
    live?: SharedArrayBuffer,
  ) {
    using undo = new DisposableStack();
    this.library = undo.use(new NativeLibrary(libraryPath("cpu", library)));
    this.model = undo.use(this.library.loadModel(tables, wanted.model));
    const sizes = fitToMemory(wanted, this.model.memory().free);
    this.sizes = sizes;
    this.engine = undo.use(this.model.createEngine(sizes.native));
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
    this.descriptor = new Descriptor(this.engine.info, sizes.native, masks);
    this.loop = new EngineLoop({
      engine: this.engine,
      pager: this.pager,
      scheduler: this.scheduler,
      descriptor: this.descriptor,
      sink,
      slots: sizes.native.slots,
      inFlight: sizes.inFlight,
      metrics,
      masks,
      live: this.live,
      budget,
    });
    undo.move();
  }

  [Symbol.dispose](): void {
    this.engine[Symbol.dispose]();
    this.model[Symbol.dispose]();
    this.library[Symbol.dispose]();
  }
}
