/**
 * What the TypeScript side costs per step: planning, transport, and filling the descriptor, with a native
 * step that computes nothing. Aims: 64 slots p50 <= 100 us and p99 <= 300 us, 256 slots p99 <= 1 ms, and no
 * allocation in the steady state.
 *
 * @module
 */
import type { KvMode } from "../../runtime/types.ts";
import { EngineHost } from "../../runtime/host.ts";
import { randomModel } from "../../runtime/model/folder.ts";
import { engineSizes } from "../../runtime/options.ts";
import type { Sequence } from "../../runtime/sequence.ts";
import { greedy, silent } from "../loop.ts";
import { median, quantile, type Report } from "../report.ts";

const HISTORY = 4000;
const STEPS = 10_000;
const WINDOWS = 10;
const CONTEXT = 65_536;

/** Different from the first token on, so that nothing is shared. */
function sequence(id: number, promptLength: number, maxTokens: number): Sequence {
  return greedy(id, promptLength, maxTokens, (i) => 3 + (id * 131 + i * 7) % 900);
}

function measure(slots: number, kvMode: KvMode, fragmented: boolean) {
  const tables = randomModel({
    hidden: 16,
    intermediate: 16,
    layers: 1,
    heads: 1,
    kvHeads: 1,
    vocab: 1000,
    maxPosition: CONTEXT,
    dtype: "bf16",
  });
  const options = {
    model: "",
    noop: true,
    slots,
    kvMode,
    maxContext: CONTEXT,
    mixedChunk: 256,
    kvMemory: 2 ** 33,
  };
  const sizes = engineSizes(options, tables, "bf16");
  using host = new EngineHost(tables, sizes, silent);
  const { loop, scheduler } = host;
  let id = 0;
  // Fragmentation as it comes about: short and long ones mixed, the short ones leave.
  if (fragmented) { for (let i = 0; i < slots; i++) loop.submit(sequence(++id, 500, 400 + 37 * (i % 17))); }
  for (let i = 0; i < slots; i++) {
    loop.submit(sequence(++id, HISTORY, 4 * STEPS));
    if (fragmented) loop.turn(1_000_000);
  }
  while (scheduler.running.length < slots || scheduler.running.some((one) => one.pending === 0)) {
    loop.turn(1_000_000);
  }
  for (let i = 0; i < 500; i++) loop.turn(1_000_000);

  const times = new Float64Array(STEPS);
  for (let i = 0; i < STEPS; i++) {
    loop.turn(1_000_000);
    times[i] = loop.stats.lastPlanMs * 1000;
  }
  for (let i = 0; i < STEPS; i++) loop.turn(1_000_000);
  // In windows, as the compiler's own notes live on the same heap and come and go.
  const grown: number[] = [];
  for (let window = 0; window < WINDOWS; window++) {
    (globalThis as { gc?: () => void }).gc?.();
    const before = Deno.memoryUsage().heapUsed;
    for (let i = 0; i < STEPS / WINDOWS; i++) loop.turn(1_000_000);
    grown.push((Deno.memoryUsage().heapUsed - before) / (STEPS / WINDOWS));
  }
  const groups = loop.stats.groups / loop.stats.steps / slots;
  return {
    slots,
    "kv-mode": kvMode,
    placement: fragmented ? "fragmented" : "fresh",
    "p50 us": quantile(times, 0.5),
    "p99 us": quantile(times, 0.99),
    "max us": quantile(times, 1),
    "groups/slot": groups,
    "descriptor KiB": host.descriptor.bytes.length / 1024,
    "moved/step": host.pager.stats.blocksMoved / loop.stats.steps,
    "heap B/step": median(grown),
  };
}

/** Runs the suite. */
export function run(): Promise<Report[]> {
  const rows = [
    measure(64, "kv-rm", false),
    measure(64, "kv-rm", true),
    measure(64, "paged", false),
    measure(64, "static", false),
    measure(256, "kv-rm", false),
    measure(256, "kv-rm", true),
  ];
  return Promise.resolve([{
    suite: `planning and filling the descriptor, ${STEPS} decode steps from ${HISTORY} tokens of history on`,
    rows,
    notes: [
      "heap B/step: growth of the JavaScript heap over the 10,000 steps after 20,000 others, median of",
      "10 windows of 1,000 steps (reading the heap's size itself takes 2.8 B/step of it)",
      "moved/step: blocks copied for staging and sharing",
    ],
  }]);
}
