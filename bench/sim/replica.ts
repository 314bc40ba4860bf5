/**
 * A server in virtual time: the real pager, scheduler, descriptor and loop around a simulated engine; and a fleet of
 * them behind a router.
 *
 * @module
 */
import { SimulatedHost } from "../../runtime/host.ts";
import { Finish, type LoopSink } from "../../runtime/loop.ts";
import type { EngineSizes } from "../../runtime/options.ts";
import type { Sequence } from "../../runtime/sequence.ts";
import { VirtualClock } from "../../runtime/sim/clock.ts";
import type { StepCost } from "../../runtime/sim/cost.ts";
import { SwitchedSink } from "../evaluation/replay.ts";
import { sequenceOf } from "../evaluation/replay.ts";
import type { WorkloadRequest } from "../workloads/workload.ts";
import { Histogram } from "./histogram.ts";

/** What requests met with. Times in milliseconds. */
export class Measurements {
  readonly ttft = new Histogram();
  readonly itl = new Histogram();
  tokens = 0;
  finished = 0;
  promptTokens = 0;
  cachedTokens = 0;
  /** Tokens in each stretch of time; see {@link Measurements.stretchMs}. */
  readonly perStretch: number[] = [];

  /** @param stretchMs how long a stretch of {@link Measurements.perStretch} is */
  constructor(readonly stretchMs = 600_000) {}
}

/** One server. Its clock is its engine's. */
export class Replica extends SimulatedHost implements LoopSink {
  readonly clock: VirtualClock;
  /** KV that running sequences have and that blocks hold, added up over steps, in tokens. */
  liveTokens = 0;
  heldTokens = 0;
  readonly #arrivals = new Map<number, number>();
  readonly #last = new Map<number, number>();
  readonly #isStatic: boolean;

  /** @param planMicros of the loop's time, each step, and `gapMicros` between two: see {@link SimulatedHost} */
  constructor(
    sizes: EngineSizes,
    vocab: number,
    cost: StepCost,
    readonly measured: Measurements,
    planMicros = 20,
    gapMicros = 0,
  ) {
    const sink = new SwitchedSink(), clock = new VirtualClock();
    super(sizes, vocab, cost, sink, "", { clock, planMicros, gapMicros });
    sink.to = this;
    this.clock = clock;
    this.#isStatic = sizes.kvMode.startsWith("static");
  }

  /** Requests in slots and queue. */
  get load(): number {
    return this.#arrivals.size;
  }

  submit(request: WorkloadRequest): void {
    if (this.loop.idle) this.clock.now = Math.max(this.clock.now, request.arrivalMs * 1000);
    const sequence = sequenceOf(request);
    this.#arrivals.set(sequence.id, request.arrivalMs);
    this.loop.submit(sequence);
  }

  /** Runs until `ms`, or until nothing is left to do; as a real loop it looks up between steps only. */
  advance(ms: number): void {
    while (!this.loop.idle && this.clock.now < ms * 1000) this.loop.turn(0);
  }

  tick(): void {
    const { blockTokens } = this.sizes.native;
    const { active, inFlight, moving, reserved } = this.pager.stats;
    let scheduled = 0, mapped = 0;
    for (const sequence of this.scheduler.running) {
      scheduled += sequence.scheduled;
      mapped += sequence.map!.blockCount;
    }
    this.liveTokens += this.#isStatic ? scheduled : active * blockTokens - (mapped * blockTokens - scheduled);
    this.heldTokens += blockTokens * (active + inFlight + moving + (this.#isStatic ? reserved : 0));
  }

  admitted(sequence: Sequence): void {
    this.measured.promptTokens += sequence.promptLength;
    this.measured.cachedTokens += Math.max(0, sequence.cachedTokens);
  }

  token(sequence: Sequence, _token: number, finish: number): void {
    const { measured } = this;
    const now = this.clock.now / 1000;
    const last = this.#last.get(sequence.id);
    if (last === undefined) measured.ttft.add(now - this.#arrivals.get(sequence.id)!);
    else measured.itl.add(now - last);
    measured.tokens++;
    const stretch = Math.floor(now / measured.stretchMs);
    while (measured.perStretch.length <= stretch) measured.perStretch.push(0);
    measured.perStretch[stretch]!++;
    if (finish === Finish.NONE) {
      this.#last.set(sequence.id, now);
      return;
    }
    measured.finished++;
    this.#last.delete(sequence.id);
    this.#arrivals.delete(sequence.id);
  }

  promptToken(): void {}

  ended(sequence: Sequence): void {
    this.#last.delete(sequence.id);
    this.#arrivals.delete(sequence.id);
  }
}

/** Which of the replicas a request goes to. */
export type Route = (request: WorkloadRequest, replicas: readonly Replica[]) => number;

/** In turns. */
export function roundRobin(): Route {
  let next = -1;
  return (_request, replicas) => next = (next + 1) % replicas.length;
}

/** To where the fewest requests are; among equals in turns. */
export function leastLoaded(): Route {
  let turn = -1;
  return (_request, replicas) => {
    let best = turn = (turn + 1) % replicas.length;
    for (let i = 0; i < replicas.length; i++) {
      const at = (turn + i) % replicas.length;
      if (replicas[at]!.load < replicas[best]!.load) best = at;
    }
    return best;
  };
}

/**
 * To where a prompt with the longest equal beginning went, unless that one has `slack` requests more than the least
 * loaded. Beginnings are compared in steps of `step` tokens by hash; the router remembers the last place of each.
 */
export function prefixAware(step: number, slack: number): Route {
  const places = new Map<number, number>();
  const hashes: number[] = [];
  const least = leastLoaded();
  return (request, replicas) => {
    const { promptTokens } = request;
    hashes.length = 0;
    for (let i = 0, hash = 0; i + step <= promptTokens.length; i += step) {
      for (let k = 0; k < step; k++) hash = (Math.imul(hash, 0x9e3779b1) + promptTokens[i + k]! + 1) | 0;
      hashes.push(hash);
    }
    let to = -1;
    for (let i = hashes.length - 1; i >= 0 && to < 0; i--) to = places.get(hashes[i]!) ?? -1;
    const quietest = least(request, replicas);
    if (to < 0 || replicas[to]!.load > replicas[quietest]!.load + slack) to = quietest;
    for (const hash of hashes) places.set(hash, to);
    return to;
  };
}

/**
 * Sends requests, ascending by arrival, to replicas until all have ended; returns the last one's end in milliseconds.
 */
export function simulate(
  replicas: readonly Replica[],
  requests: Iterable<WorkloadRequest>,
  route: Route = () => 0,
  onProgress: (request: WorkloadRequest) => void = () => {},
): number {
  for (const request of requests) {
    for (const replica of replicas) replica.advance(request.arrivalMs);
    replicas[route(request, replicas)]!.submit(request);
    onProgress(request);
  }
  let end = 0;
  for (const replica of replicas) {
    replica.advance(Infinity);
    end = Math.max(end, replica.clock.now / 1000);
  }
  return end;
}
