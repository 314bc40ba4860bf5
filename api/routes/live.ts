/**
 * `GET /live`: what the engine looks like, ten times a second, as server-sent events. All who watch get the same
 * text; while nobody does, nothing is made.
 *
 * @module
 */

import { Hono } from "hono";
import { type EngineLive, LIVE_INTERVAL_MS, type LivePicture } from "../../runtime/live.ts";
import { Gauge } from "../../runtime/telemetry/loop_metrics.ts";
import type { Engine } from "../../runtime/types.ts";
import type { ApiContext, ApiEnv } from "../context.ts";
import { ApiError } from "../errors.ts";
import type { ServiceState } from "../service_state.ts";
import { EventStream, namedEvent } from "../sse.ts";
import { STREAM_HEADERS } from "../stream.ts";

/** Who may watch at once. */
const MAX_WATCHERS = 32;
/** After so long without news a watcher gets a sign of life, in milliseconds. */
const SILENCE_MS = 10_000;

/** Routes of the live view. */
export function liveRoutes({ engine, state }: ApiContext): Hono<ApiEnv> {
  let feed: LiveFeed | null = null;
  return new Hono<ApiEnv>().get("/live", (c) => {
    const live = engine.live;
    if (!live) throw new ApiError(404, "This engine cannot be watched.", { code: "not_found" });
    if (c.req.method === "HEAD") return new Response(null, { headers: STREAM_HEADERS });
    feed ??= new LiveFeed(engine, live, state);
    return new Response(feed.open().body, { headers: STREAM_HEADERS });
  });
}

/** One picture for all who watch. */
class LiveFeed {
  readonly #engine: Engine;
  readonly #live: EngineLive;
  readonly #state: ServiceState;
  readonly #watchers = new Set<EventStream>();
  #timer: ReturnType<typeof setInterval> | undefined;
  #unwatch: () => void = () => {};
  #version = 0;
  #text = "";
  #sent = 0;

  constructor(engine: Engine, live: EngineLive, state: ServiceState) {
    this.#engine = engine;
    this.#live = live;
    this.#state = state;
  }

  open(): EventStream {
    if (this.#watchers.size >= MAX_WATCHERS) {
      throw new ApiError(429, `${MAX_WATCHERS} watch already.`, {
        code: "too_many_watchers",
        headers: { "retry-after": "10" },
      });
    }
    const stream = new EventStream(() => this.#leave(stream));
    stream.write(namedEvent(hello(this.#engine, this.#live)) + this.#text);
    this.#watchers.add(stream);
    if (this.#watchers.size === 1) {
      this.#unwatch = this.#live.watch();
      this.#sent = performance.now();
      this.#timer = setInterval(() => this.#tick(), LIVE_INTERVAL_MS);
    }
    return stream;
  }

  #leave(stream: EventStream): void {
    this.#watchers.delete(stream);
    if (this.#watchers.size > 0) return;
    clearInterval(this.#timer);
    this.#unwatch();
    // Whoever comes next has no use for an old picture.
    this.#text = "";
  }

  #tick(): void {
    if (this.#state.draining || this.#engine.failure !== null) {
      for (const stream of [...this.#watchers]) {
        stream.close();
        this.#leave(stream);
      }
      return;
    }
    const text = this.#picture();
    const now = performance.now();
    if (text !== "") this.#send(text, now);
    else if (now - this.#sent > SILENCE_MS) this.#send(":\n\n", now);
  }

  /** The text of a picture that differs from the last, or "". */
  #picture(): string {
    if (this.#live.version === this.#version) return "";
    const picture = this.#live.read();
    if (picture === null) return "";
    this.#version = picture.version;
    const text = namedEvent(frame(this.#engine, picture));
    if (text === this.#text) return "";
    return this.#text = text;
  }

  #send(text: string, now: number): void {
    this.#sent = now;
    // A reader who lags misses pictures; there is always a next one.
    for (const stream of this.#watchers) if (!stream.full) stream.write(text);
  }
}

/** What does not change. */
function hello(engine: Engine, live: EngineLive) {
  const { model, telemetry } = engine;
  return {
    type: "hello",
    model: {
      id: model.id,
      parameters: model.parameters,
      dtype: model.dtype,
      context: model.maxContext,
      chat: model.hasChatTemplate,
    },
    backend: engine.backend,
    mode: engine.kvMode,
    slots: engine.slots,
    blocks: engine.stats().blocks.total,
    blockTokens: engine.blockTokens,
    blockBytes: telemetry.blockBytes,
    cells: live.cells,
    blocksPerCell: live.blocksPerCell,
    stepBounds: telemetry.loop.step[0]!.snapshot().bounds,
  };
}

/** What does. */
function frame(engine: Engine, { cells, slots, steps, moves }: LivePicture) {
  const { running, waiting, blocks, generatedTokens, steps: committed } = engine.stats();
  const { loop } = engine.telemetry;
  const [decode, ...mixed] = loop.step.map((shape) => shape.snapshot().counts);
  return {
    type: "frame",
    running,
    waiting,
    blocks: {
      ...blocks,
      shared: loop.gauges[Gauge.BLOCKS_SHARED]!,
      reserved: loop.gauges[Gauge.BLOCKS_RESERVED]!,
    },
    cells,
    slots: slots.map((record, slot) => [slot, ...record]).filter(([, id]) => id !== 0),
    steps,
    moves,
    counts: {
      steps: committed,
      generated: generatedTokens,
      staged: loop.gauges[Gauge.STAGED_BLOCKS]!,
      copied: loop.gauges[Gauge.COPIED_BLOCKS]!,
    },
    stepTimes: [decode!, decode!.map((_, i) => mixed.reduce((sum, counts) => sum + counts[i]!, 0))],
  };
}
