/**
 * The worker that an engine lives in: it turns the loop, takes commands from one ring and puts events on
 * another. It gives way to its own event loop just ten times a second, where Deno's telemetry collects what it
 * wants to know of every thread; the stop word ends it.
 *
 * @module
 */
/// <reference lib="deno.worker" />
import { setImmediate } from "node:timers";
import { NativeError } from "../ffi/mod.ts";
import type { BoardMemory } from "./grammar/board.ts";
import { EngineHost, type LoopHost, SimulatedHost } from "./host.ts";
import { MOVE_BUDGET_BLOCKS } from "./kv/mod.ts";
import type { ModelTables } from "./model/folder.ts";
import type { EngineSizes } from "./options.ts";
import { Command, Control, RingSink, Stat, takeSubmit } from "./protocol.ts";
import { Ring } from "./ring.ts";
import type { StepEngine } from "./loop.ts";
import type { Sequence } from "./sequence.ts";
import { RealClock } from "./sim/clock.ts";
import { rooflineCost } from "./sim/cost.ts";
import { Gauge, LoopMetrics } from "./telemetry/loop_metrics.ts";

/** The first and only message to the worker. */
export interface WorkerStart {
  tables: ModelTables;
  sizes: EngineSizes;
  /** Nothing is loaded where steps are simulated. */
  libraryPath: string;
  commands: SharedArrayBuffer;
  events: SharedArrayBuffer;
  control: SharedArrayBuffer;
  stats: SharedArrayBuffer;
  /** Of a {@link LoopMetrics} with as many shapes as the engine has. */
  metrics: SharedArrayBuffer;
  /** Of a {@link LiveMemory}. */
  live: SharedArrayBuffer;
  /** What masks go through; null where no request has a constraint. */
  board: BoardMemory | null;
}

/** Messages from the worker: it is ready, could not start, broke down, or has stopped. */
export type WorkerMessage =
  | { type: "ready"; backend: string; threads: number; sizes: EngineSizes }
  | { type: "failed"; message: string; code: string }
  | { type: "stopped" };

/** Where kvrm.h has some of its counters. */
const NativeCounter = { BUSY_US: 3, SHAPES_PREPARED: 4, HOST_BLOCKS: 6 } as const;
const NATIVE_COUNTERS = 7;
/** How old the native counters may be, in milliseconds. */
const COUNTERS_MS = 200;

/** How long the loop turns before the thread's own event loop has a turn, in milliseconds. */
const YIELD_MS = 100;

/** How long a wait may last before the heartbeat is due, in milliseconds. */
const BEAT_MS = 50;

class EngineWorker {
  readonly #host: LoopHost<StepEngine>;
  readonly #commands: Ring;
  readonly #events: Ring;
  readonly #control: Int32Array;
  readonly #stats: Float64Array;
  readonly #sink: RingSink;
  readonly #metrics: LoopMetrics;
  readonly #counters = new Float64Array(NATIVE_COUNTERS);
  #countersRead = 0;
  readonly #sequences = new Map<number, Sequence>();
  readonly #parentOf = (id: number) => this.#sequences.get(id) ?? null;

  constructor(start: WorkerStart) {
    this.#commands = new Ring(start.commands);
    this.#events = new Ring(start.events);
    this.#control = new Int32Array(start.control);
    this.#stats = new Float64Array(start.stats);
    this.#metrics = new LoopMetrics(start.metrics, start.sizes.native.chunks.length + 1);
    this.#sink = new RingSink(
      this.#events,
      () => this.#waitForReader(),
      (sequence) => this.#sequences.delete(sequence.id),
    );
    this.#host = this.#open(start);
  }

  get ready(): WorkerMessage {
    const { backend, engine, sizes } = this.#host;
    return { type: "ready", backend, threads: engine.info.threads, sizes };
  }

  #open({ tables, sizes, libraryPath, board, live }: WorkerStart): LoopHost<StepEngine> {
    const extras = { metrics: this.#metrics, board: board ?? undefined, live };
    const { simulation } = sizes;
    if (simulation === undefined) return new EngineHost(tables, sizes, this.#sink, libraryPath, extras);
    const { name, shape, card, cards } = simulation;
    const { vocab } = tables.config;
    const cost = rooflineCost(shape, card, cards, sizes.native.blockTokens);
    const options = { clock: new RealClock(), tokens: vocab };
    return new SimulatedHost(sizes, vocab, cost, this.#sink, name, options, extras);
  }

  /** Turns the loop until the stop word is set. */
  async run(): Promise<void> {
    const loop = this.#host.loop;
    let yielded = performance.now();
    while (Atomics.load(this.#control, Control.STOP) === 0) {
      this.#beat();
      this.#sink.tick();
      this.#takeCommands();
      this.#host.live!.tick();
      const progressed = loop.turn(BEAT_MS * 1000);
      this.#events.publish();
      if (!progressed && loop.idle) {
        this.#writeStats();
        this.#commands.wait(BEAT_MS);
      }
      if (performance.now() - yielded < YIELD_MS) continue;
      await new Promise<void>((resolve) => setImmediate(resolve));
      yielded = performance.now();
    }
    this.#host[Symbol.dispose]();
  }

  #takeCommands(): void {
    if (this.#commands.available === 0) return;
    while (this.#commands.available > 0) {
      const tag = this.#commands.take();
      if (tag === Command.SUBMIT) {
        const sequence = takeSubmit(this.#commands, this.#parentOf);
        this.#sequences.set(sequence.id, sequence);
        this.#host.loop.submit(sequence);
      } else {
        const sequence = this.#sequences.get(this.#commands.take());
        if (sequence) this.#host.loop.cancel(sequence);
      }
    }
    this.#commands.release();
  }

  #beat(): void {
    // Wraps every 25 days; only its age is looked at.
    Atomics.store(this.#control, Control.HEARTBEAT, Date.now() | 0);
    this.#writeStats();
  }

  #waitForReader(): void {
    this.#events.publish();
    this.#beat();
    if (Atomics.load(this.#control, Control.STOP) !== 0) {
      throw new Error("stopped while waiting for the reader");
    }
    this.#events.waitForRoom(64, BEAT_MS);
  }

  #writeStats(): void {
    const stats = this.#stats;
    const { pager, scheduler, loop } = this.#host;
    stats[Stat.RUNNING] = scheduler.running.length;
    stats[Stat.WAITING] = scheduler.waiting.length;
    stats[Stat.BLOCKS_ACTIVE] = pager.stats.active;
    stats[Stat.BLOCKS_CACHED] = pager.stats.cached;
    stats[Stat.BLOCKS_FREE] = pager.stats.free + pager.stats.reserved;
    stats[Stat.STEPS] = loop.stats.steps;
    stats[Stat.GENERATED] = loop.stats.generatedTokens;
    stats[Stat.PROMPT] = loop.stats.promptTokens;
    stats[Stat.CACHED] = pager.stats.prefixHits;
    stats[Stat.PREEMPTIONS] = scheduler.preemptions;
    this.#writeGauges();
  }

  #writeGauges(): void {
    const gauges = this.#metrics.gauges;
    const { pager: { stats }, scheduler, loop, sizes } = this.#host;
    let live = 0;
    for (let i = 0; i < scheduler.running.length; i++) live += scheduler.running[i]!.scheduled;
    gauges[Gauge.LIVE_TOKENS] = live;
    gauges[Gauge.BLOCKS_RESERVED] = stats.reserved;
    gauges[Gauge.BLOCKS_IN_FLIGHT] = stats.inFlight + stats.moving;
    gauges[Gauge.BLOCKS_SHARED] = stats.shared;
    gauges[Gauge.EXTENTS] = stats.extents;
    gauges[Gauge.LARGEST_FREE_RUN] = stats.largestFreeRun;
    gauges[Gauge.MOVES] = stats.movesPlanned;
    gauges[Gauge.COPIED_BLOCKS] = stats.cowBlocks;
    gauges[Gauge.STAGED_BLOCKS] = stats.stagedBlocks;
    const budget = sizes.kvMode === "kv-rm" ? sizes.pager.moveBudgetBlocks ?? MOVE_BUDGET_BLOCKS : 0;
    gauges[Gauge.STAGING_BUDGET] = loop.stats.steps * budget;
    gauges[Gauge.GROUPS_BEFORE] = stats.groupsBeforeMerge;
    gauges[Gauge.GROUPS_AFTER] = stats.groupsAfterMerge;
    gauges[Gauge.PREFIX_QUERIES] = stats.prefixQueries;
    gauges[Gauge.PREFIX_HITS] = stats.prefixHits;
    gauges[Gauge.EVICTIONS] = stats.evictions;
    // A call into the library: now and then is enough.
    const time = performance.now();
    if (time - this.#countersRead < COUNTERS_MS) return;
    this.#countersRead = time;
    this.#host.counters(this.#counters);
    gauges[Gauge.SHAPES_PREPARED] = this.#counters[NativeCounter.SHAPES_PREPARED]!;
    gauges[Gauge.HOST_BLOCKS] = this.#counters[NativeCounter.HOST_BLOCKS]!;
    gauges[Gauge.BUSY_SECONDS] = this.#counters[NativeCounter.BUSY_US]! / 1e6;
  }
}

function failed(error: unknown): WorkerMessage {
  return {
    type: "failed",
    message: error instanceof Error ? error.message : String(error),
    code: error instanceof NativeError ? error.code : "INTERNAL",
  };
}

self.onmessage = async (event: MessageEvent<WorkerStart>) => {
  try {
    const worker = new EngineWorker(event.data);
    self.postMessage(worker.ready);
    await worker.run();
    self.postMessage({ type: "stopped" } satisfies WorkerMessage);
  } catch (error) {
    self.postMessage(failed(error));
  }
  self.close();
};
