/**
 * Replays a workload through the real loop, in this thread: requests come when the workload says so, whether or not
 * those before them are done, and everything is timed on the way.
 *
 * @module
 */
import type { EngineHost } from "../../runtime/host.ts";
import { Finish, type LoopSink } from "../../runtime/loop.ts";
import { greedyOptions, Sequence, State } from "../../runtime/sequence.ts";
import type { WorkloadRequest } from "../workloads/workload.ts";

/** What became of a request. Milliseconds since the start of the replay. */
export interface RequestTimes {
  arrivalMs: number;
  promptTokens: number;
  /** When each token of the answer was known. */
  tokenMs: Float64Array;
  /** Tokens known when the replay ended. */
  tokens: number;
  finished: boolean;
  /** Tokens of the prompt found in the prefix cache. */
  cachedTokens: number;
}

/** One value a step, in the order in which steps completed. */
export interface StepSamples {
  /** When the step's result was taken, in milliseconds since the start. */
  timeMs: number[];
  /** Milliseconds that the native step ran, by its own clock. */
  execMs: number[];
  planMs: number[];
  /** 1 where prompts were computed beside. */
  mixed: number[];
  /** Slots that took part. */
  slots: number[];
  groupsBefore: number[];
  groupsAfter: number[];
  movedBlocks: number[];
  /** Tokens whose KV running sequences have, those of shared blocks once. */
  liveTokens: number[];
  /** Tokens that the blocks hold which no other sequence could be given at that time. */
  heldTokens: number[];
  /** The same for blocks set aside ahead of sequences that would be given up under pressure. */
  softTokens: number[];
  /** KV that is kept for the rests of prompts on their way in, from whoever is not in a slot yet. */
  promisedTokens: number[];
}

/** A replay's measurements. */
export interface Replay {
  seconds: number;
  requests: RequestTimes[];
  steps: StepSamples;
  preemptions: number;
  stagedBlocks: number;
  movedBlocks: number;
  blockBytes: number;
}

/** Rows of a replay. */
export interface ReplayOptions {
  /** Stops after so many seconds; what has not ended by then counts as unfinished. Default 60. */
  limitSeconds?: number;
  /** Stops after so many steps. Default: never. */
  limitSteps?: number;
  /** Hears of each committed step, while its descriptor is there. */
  onCommit?: () => void;
  /** Hears what share of the requests has ended. */
  onProgress?: (share: number) => void;
}

/** A pause of the thread that whatever it waits for cannot be rung in. */
const PAUSE = new Int32Array(new SharedArrayBuffer(4));
const PROGRESS_MS = 200;

class Recorder implements LoopSink {
  readonly requests: RequestTimes[] = [];
  readonly steps: StepSamples = {
    timeMs: [],
    execMs: [],
    planMs: [],
    mixed: [],
    slots: [],
    groupsBefore: [],
    groupsAfter: [],
    movedBlocks: [],
    liveTokens: [],
    heldTokens: [],
    softTokens: [],
    promisedTokens: [],
  };
  ended_ = 0;
  completed = 0;
  #now = 0;

  constructor(readonly start: number, readonly firstId: number) {}

  tick(): void {
    this.#now = performance.now() - this.start;
    this.completed++;
  }

  get now(): number {
    return this.#now;
  }

  admitted(sequence: Sequence): void {
    this.requests[sequence.id - this.firstId]!.cachedTokens = Math.max(0, sequence.cachedTokens);
  }

  token(sequence: Sequence, _token: number, finish: number): void {
    const request = this.requests[sequence.id - this.firstId]!;
    request.tokenMs[request.tokens++] = this.#now;
    if (finish === Finish.NONE) return;
    request.finished = true;
    this.ended_++;
  }

  promptToken(): void {}

  ended(): void {
    this.ended_++;
  }
}

/** Hosts forward what they hear to whoever records just now. */
export class SwitchedSink implements LoopSink {
  to: LoopSink | null = null;
  tick(): void {
    this.to?.tick?.();
  }
  admitted(sequence: Sequence): void {
    this.to?.admitted(sequence);
  }
  token(...args: Parameters<LoopSink["token"]>): void {
    this.to?.token(...args);
  }
  promptToken(...args: Parameters<LoopSink["promptToken"]>): void {
    this.to?.promptToken(...args);
  }
  ended(sequence: Sequence, finish: number): void {
    this.to?.ended(sequence, finish);
  }
}

let nextId = 1;

/** A greedy sequence of a workload's request, that ends by its length. */
export function sequenceOf({ promptTokens, maxTokens }: Omit<WorkloadRequest, "arrivalMs">): Sequence {
  return new Sequence({
    ...greedyOptions(nextId++, promptTokens, maxTokens),
    // Never sampled, but the search for stop tokens is paid for.
    stopTokens: Int32Array.of(-1),
  });
}

/** Runs `requests` through `host`, whose sink is `sink`. The prefix cache is empty at the start. */
export function replay(
  host: EngineHost,
  sink: SwitchedSink,
  requests: readonly WorkloadRequest[],
  options: ReplayOptions = {},
): Replay {
  const { loop, pager, scheduler, sizes } = host;
  const { limitSeconds = 60, limitSteps = Infinity, onCommit, onProgress } = options;
  pager.dropCache();
  const { stats } = pager;
  const before = {
    preemptions: scheduler.preemptions,
    staged: stats.stagedBlocks,
    moved: stats.blocksMoved,
  };
  const start = performance.now();
  const recorder = sink.to = new Recorder(start, nextId);
  const { steps } = recorder;
  const sequences: Sequence[] = [];
  const isStatic = sizes.pager.mode.startsWith("static");
  const { blockTokens } = sizes.native;
  // What is known of a step when it is committed, until it completes.
  const committed: { mixed: number; slots: number; before: number; after: number; moved: number }[] = [];
  let groupsBefore = stats.groupsBeforeMerge, groupsAfter = stats.groupsAfterMerge, moved = stats.blocksMoved;
  let next = 0, shown = 0, seen = 0;
  for (;;) {
    const now = performance.now() - start;
    while (next < requests.length && requests[next]!.arrivalMs <= now) {
      const request = requests[next++]!;
      const sequence = sequenceOf(request);
      sequences.push(sequence);
      recorder.requests.push({
        arrivalMs: request.arrivalMs,
        promptTokens: request.promptTokens.length,
        tokenMs: new Float64Array(request.maxTokens),
        tokens: 0,
        finished: false,
        cachedTokens: 0,
      });
      loop.submit(sequence);
    }
    if (onProgress && now - shown > PROGRESS_MS) {
      shown = now;
      onProgress(Math.max(recorder.ended_ / requests.length, Math.min(1, now / 1000 / limitSeconds)));
    }
    if (loop.idle) {
      if (next === requests.length) break;
      if (now > limitSeconds * 1000) break;
      Atomics.wait(PAUSE, 0, 0, Math.max(0.05, requests[next]!.arrivalMs - now));
      continue;
    }
    if (now > limitSeconds * 1000 || recorder.completed >= limitSteps) break;
    const stepsBefore = loop.stats.steps, mixedBefore = loop.stats.mixedSteps;
    loop.turn(10_000_000);
    if (loop.stats.steps > stepsBefore) {
      onCommit?.();
      committed.push({
        mixed: loop.stats.mixedSteps - mixedBefore,
        slots: scheduler.running.length,
        before: stats.groupsBeforeMerge - groupsBefore,
        after: stats.groupsAfterMerge - groupsAfter,
        moved: stats.blocksMoved - moved,
      });
      groupsBefore = stats.groupsBeforeMerge;
      groupsAfter = stats.groupsAfterMerge;
      moved = stats.blocksMoved;
    }
    if (recorder.completed === seen) continue;
    seen = recorder.completed;
    const step = committed.shift()!;
    steps.timeMs.push(recorder.now);
    steps.execMs.push(loop.stats.lastExecMs);
    steps.planMs.push(loop.stats.lastPlanMs);
    steps.mixed.push(step.mixed);
    steps.slots.push(step.slots);
    steps.groupsBefore.push(step.before);
    steps.groupsAfter.push(step.after);
    steps.movedBlocks.push(step.moved);
    let scheduled = 0, mapped = 0;
    for (const sequence of scheduler.running) {
      scheduled += sequence.scheduled;
      mapped += sequence.map!.blockCount;
    }
    const { active, inFlight, moving, reserved, promised } = stats;
    steps.liveTokens.push(isStatic ? scheduled : active * blockTokens - (mapped * blockTokens - scheduled));
    steps.heldTokens.push(blockTokens * (active + inFlight + moving + (isStatic ? reserved : 0)));
    steps.softTokens.push(isStatic ? 0 : reserved * blockTokens);
    steps.promisedTokens.push(promised * blockTokens);
  }
  const seconds = (performance.now() - start) / 1000;
  for (const sequence of sequences) if (sequence.state !== State.FINISHED) loop.cancel(sequence);
  while (!loop.idle) loop.turn(10_000_000);
  sink.to = null;
  // Those that never came, for the limit of time, are unfinished too.
  for (; next < requests.length; next++) {
    const { arrivalMs, promptTokens } = requests[next]!;
    if (arrivalMs > seconds * 1000) break;
    recorder.requests.push({
      arrivalMs,
      promptTokens: promptTokens.length,
      tokenMs: new Float64Array(0),
      tokens: 0,
      finished: false,
      cachedTokens: 0,
    });
  }
  return {
    seconds,
    requests: recorder.requests,
    steps,
    preemptions: scheduler.preemptions - before.preemptions,
    stagedBlocks: stats.stagedBlocks - before.staged,
    movedBlocks: stats.blocksMoved - before.moved,
    blockBytes: sizes.blockBytes,
  };
}
