/**
 * The four ways to keep KV that most suites compare, and what a replay on one of them gives.
 *
 * @module
 */
import type { EngineOptions, EngineSizes } from "../../runtime/options.ts";
import type { KvMode } from "../../runtime/types.ts";
import { atOnce, makeWorkload, type Workload, type WorkloadOptions } from "../workloads/workload.ts";
import { replay, type ReplayOptions } from "./replay.ts";
import { MODEL, OpenSide, ROW_BYTES, type Side, TOKEN_BYTES } from "./sides.ts";
import { curve, interTokenMs, type Slo, summarise, thin } from "./summary.ts";
import type { Context, Part } from "./suite.ts";

/** In the order of reports. */
export const MODES: readonly KvMode[] = ["static", "static-padded", "paged", "kv-rm"];

/** Tokens of context of all replays; the longest requests of the traces, scaled, fit. */
export const CONTEXT = 4096;
/** What lengths of the traces are multiplied by. */
export const SCALE = 0.25;
export const SLOTS = 16;
/** KV of four sequences of the full context: what a static pool of four slots takes. */
export const SMALL_POOL_TOKENS = 4 * CONTEXT;
export const SLO: Slo = { ttftMs: 1000, tpotMs: 50 };
export const BLOCK_TOKENS = 32;

/** What most suites say of their replays. */
export const REPLAY_PARAMETERS = {
  context: CONTEXT,
  "length scale": SCALE,
  "block tokens": BLOCK_TOKENS,
  "SLO TTFT ms": SLO.ttftMs,
  "SLO ms per token": SLO.tpotMs,
} as const;

/** A mode with as many slots and tokens of KV. */
export function modeSide(
  mode: KvMode,
  slots: number,
  tokens: number,
  more: Partial<EngineOptions> = {},
): Side {
  return {
    name: mode,
    options: {
      kvMode: mode,
      slots,
      maxContext: CONTEXT,
      kvMemory: tokens * TOKEN_BYTES,
      blockTokens: BLOCK_TOKENS,
      ...more,
    },
  };
}

/** A family at the scale of the replays. */
export function scaled(options: Omit<WorkloadOptions, "maxContext" | "vocab" | "lengthScale">): Workload {
  return makeWorkload({ ...options, lengthScale: SCALE, maxContext: CONTEXT, vocab: MODEL.vocab });
}

/** Opens a side, warms it up, replays, and gives what came out. */
export function measure(
  side: Side,
  workload: Workload,
  options: ReplayOptions,
  context: Pick<Context, "begin">,
): Part {
  const onProgress = context.begin(side.name);
  using open = new OpenSide(side, CONTEXT);
  open.warmUp();
  const result = replay(open.host, open.sink, workload.requests, { ...options, onProgress });
  const { blockTokens } = open.host.sizes.native;
  return {
    side: side.name,
    values: summarise(result, SLO, { blockTokens, rowBytes: ROW_BYTES }),
    series: {
      itl: curve(interTokenMs(result)),
      "step time": thin(result.steps.timeMs),
      live: thin(result.steps.liveTokens),
      held: thin(result.steps.heldTokens),
    },
  };
}

/** Requests a second that mode kv-rm gets done when all are there at once. */
export function capacity(workload: Workload, context: Pick<Context, "begin">, limitSeconds = 10): number {
  const side = { ...modeSide("kv-rm", SLOTS, SLOTS * CONTEXT), name: "how much it can take" };
  return measure(side, atOnce(workload), { limitSeconds }, context).values["requests/s"]!;
}

/** The workload, with its times stretched so that so many requests come a second on average. */
export function paced(workload: Workload, perSecond: number): Workload {
  const { requests } = workload;
  const last = requests[requests.length - 1]!.arrivalMs;
  const factor = last === 0 ? 0 : (requests.length - 1) / perSecond * 1000 / last;
  return {
    ...workload,
    requests: requests.map((one) => ({ ...one, arrivalMs: one.arrivalMs * factor })),
    source: `${workload.source}, at ${perSecond.toPrecision(3)} requests/s`,
  };
}

/** The engine's sizes with other switches of the pager. */
export function pagerWith(sizes: EngineSizes, more: Partial<EngineSizes["pager"]>): EngineSizes {
  return { ...sizes, pager: { ...sizes.pager, ...more } };
}
