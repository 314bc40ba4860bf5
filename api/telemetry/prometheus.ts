/**
 * The engine's measurements as metrics of prom-client: vLLM's names for what gateways and autoscalers read,
 * `kvrm_*` for what is our own. Nothing is kept here: a scrape reads what the engine has counted.
 *
 * @module
 */

import type { Metric } from "prom-client";
import type { HistogramSnapshot } from "../../runtime/telemetry/histogram.ts";
import { Gauge } from "../../runtime/telemetry/loop_metrics.ts";
import type { Engine } from "../../runtime/types.ts";

type Labels = Record<string, string | number>;
type Kind = "counter" | "gauge" | "histogram";

/** One line of a metric. */
interface Sample {
  value: number;
  labels: Labels;
  /** Where it is not the metric's own. */
  metricName?: string;
}

/** Where no histogram of a series has anything yet, its buckets are shown all the same: rates need a zero. */
function histogramSamples(name: string, labels: Labels, snapshot: HistogramSnapshot): Sample[] {
  let below = 0;
  const samples = snapshot.counts.map((count, i) => {
    below += count;
    const le = i < snapshot.bounds.length ? snapshot.bounds[i]! : "+Inf";
    return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: below };
  });
  return [
    ...samples,
    { metricName: `${name}_sum`, labels, value: snapshot.sum },
    { metricName: `${name}_count`, labels, value: snapshot.count },
  ];
}

/** vLLM's words for how a choice ended. */
const FINISHES = { stop: "stop", length: "length", cancelled: "abort", error: "error" } as const;

/** All metrics of an engine. */
export function metricsOf(engine: Engine): Metric[] {
  const { requests, loop, shapes, blockBytes } = engine.telemetry;
  const base: Labels = { model_name: engine.model.id };
  const metrics: Metric[] = [];

  const add = (type: Kind, name: string, help: string, samples: () => Sample[]) => {
    const get = () => ({ name, help, type, values: samples(), aggregator: "sum" });
    // prom-client reads these fields of a metric of its own; only its type is narrower.
    metrics.push({ name, help, type, get } as unknown as Metric);
  };
  const gauge = (name: string, help: string, value: () => number) =>
    add("gauge", name, help, () => [{ labels: base, value: value() }]);
  const counter = (name: string, help: string, value: () => number) =>
    add("counter", name, help, () => [{ labels: base, value: value() }]);
  const histogram = (name: string, help: string, snapshot: () => HistogramSnapshot) =>
    add("histogram", name, help, () => histogramSamples(name, base, snapshot()));
  const each = (type: Kind, name: string, help: string, label: string, values: () => [string, number][]) =>
    add(
      type,
      name,
      help,
      () => values().map(([name, value]) => ({ labels: { ...base, [label]: name }, value })),
    );
  const stats = () => engine.stats();
  const level = (index: number) => loop.gauges[index]!;

  gauge("vllm:num_requests_running", "Sequences in slots.", () => stats().running);
  gauge("vllm:num_requests_waiting", "Sequences in the queue.", () => stats().waiting);
  gauge("vllm:kv_cache_usage_perc", "Share of the KV blocks that running sequences hold, 0 to 1.", () => {
    const { active, total } = stats().blocks;
    return active / total;
  });
  counter(
    "vllm:prefix_cache_queries_total",
    "Prompt tokens looked up in the prefix cache.",
    () => level(Gauge.PREFIX_QUERIES),
  );
  counter("vllm:prefix_cache_hits_total", "Prompt tokens found there.", () => level(Gauge.PREFIX_HITS));
  counter(
    "vllm:num_preemptions_total",
    "Sequences sent back to the queue for lack of blocks.",
    () => stats().preemptions,
  );
  counter("vllm:prompt_tokens_total", "Prompt tokens computed.", () => stats().promptTokens);
  counter("vllm:generation_tokens_total", "Tokens generated.", () => stats().generatedTokens);
  each(
    "counter",
    "vllm:request_success_total",
    "Choices that ended, by how.",
    "finished_reason",
    () =>
      Object.entries(FINISHES).map((
        [ours, theirs],
      ) => [theirs, requests.finished[ours as keyof typeof FINISHES]]),
  );
  const histograms: [string, string, keyof typeof requests][] = [
    ["time_to_first_token_seconds", "From the request to its first token.", "firstToken"],
    ["inter_token_latency_seconds", "Between two tokens of a choice.", "interToken"],
    ["e2e_request_latency_seconds", "From the request to its last token.", "endToEnd"],
    ["request_queue_time_seconds", "From the request to its slot.", "queue"],
    ["request_prefill_time_seconds", "From the slot to the first token.", "prefill"],
    ["request_decode_time_seconds", "From the first token to the last.", "decode"],
    ["request_prompt_tokens", "Tokens of a request's prompt.", "promptTokens"],
    ["request_generation_tokens", "Tokens generated for a request, over all choices.", "generationTokens"],
  ];
  for (const [name, help, key] of histograms) {
    histogram(`vllm:${name}`, help, () => (requests[key] as typeof requests.firstToken).snapshot());
  }
  add("gauge", "vllm:cache_config_info", "How the KV cache was built, as labels.", () => [{
    labels: {
      ...base,
      block_size: engine.blockTokens,
      num_gpu_blocks: stats().blocks.total,
      kv_mode: engine.kvMode,
      cache_bytes: engine.kvBytes,
    },
    value: 1,
  }]);

  add("gauge", "kvrm_info", "What runs here, as labels.", () => [{
    labels: { ...base, backend: engine.backend, kv_mode: engine.kvMode },
    value: 1,
  }]);
  gauge("kvrm_slots", "Sequences that can run at once.", () => stats().slots);
  gauge("kvrm_heartbeat_age_seconds", "Since the loop last turned.", () => stats().heartbeatAgeMs / 1000);
  counter("kvrm_steps_total", "Steps committed.", () => stats().steps);
  counter("kvrm_step_busy_seconds_total", "Time in steps on the device.", () => level(Gauge.BUSY_SECONDS));
  add(
    "histogram",
    "kvrm_step_seconds",
    "Time of a step on the device, by shape: decode, or the rows of its prompt chunk.",
    () =>
      loop.step.flatMap((one, i) => {
        const shape = shapes[i] === 0 ? "decode" : `mixed_${shapes[i]}`;
        return histogramSamples("kvrm_step_seconds", { ...base, shape }, one.snapshot());
      }),
  );
  histogram("kvrm_plan_seconds", "Planning a step and writing its descriptor.", () => loop.plan.snapshot());
  histogram("kvrm_commit_seconds", "Handing a step over.", () => loop.commit.snapshot());
  histogram(
    "kvrm_groups_per_slot_before_merge",
    "Blocks read per slot: a step's mean.",
    () => loop.groupsBefore.snapshot(),
  );
  histogram(
    "kvrm_groups_per_slot_after_merge",
    "Transfer groups read per slot: a step's mean.",
    () => loop.groupsAfter.snapshot(),
  );
  each("counter", "kvrm_groups_total", "Groups of all slots and steps.", "merge", () => [
    ["before", level(Gauge.GROUPS_BEFORE)],
    ["after", level(Gauge.GROUPS_AFTER)],
  ]);
  each(
    "counter",
    "kvrm_moved_bytes_total",
    "KV bytes moved within the pool, or from and to the host.",
    "kind",
    () => [
      ["copy_on_write", level(Gauge.COPIED_BLOCKS) * blockBytes],
      ["staging", level(Gauge.STAGED_BLOCKS) * blockBytes],
      ["host", level(Gauge.HOST_BLOCKS) * blockBytes],
    ],
  );
  counter("kvrm_moves_total", "Moves in descriptors, adjacent ones merged.", () => level(Gauge.MOVES));
  counter(
    "kvrm_staging_budget_bytes_total",
    "KV bytes that steps so far were allowed to stage.",
    () => level(Gauge.STAGING_BUDGET) * blockBytes,
  );
  each("gauge", "kvrm_kv_blocks", "KV blocks, by what they are for.", "state", () => {
    const { active, cached, free } = stats().blocks;
    const reserved = level(Gauge.BLOCKS_RESERVED);
    return [
      ["active", active],
      ["cached", cached],
      ["reserved", reserved],
      ["in_flight", level(Gauge.BLOCKS_IN_FLIGHT)],
      ["free", Math.max(0, free - reserved)],
    ];
  });
  gauge(
    "kvrm_kv_shared_blocks",
    "KV blocks that more than one sequence reads.",
    () => level(Gauge.BLOCKS_SHARED),
  );
  gauge(
    "kvrm_kv_held_bytes",
    "KV bytes that running sequences hold: mapped, or reserved ahead of them.",
    () => (stats().blocks.active + level(Gauge.BLOCKS_RESERVED)) * blockBytes,
  );
  gauge(
    "kvrm_kv_live_bytes",
    "KV bytes of tokens that running sequences have; a shared token counts for each.",
    () => level(Gauge.LIVE_TOKENS) / engine.blockTokens * blockBytes,
  );
  gauge("kvrm_kv_extents", "Extents of running sequences.", () => level(Gauge.EXTENTS));
  gauge(
    "kvrm_kv_largest_free_run_blocks",
    "Longest run of free blocks.",
    () => level(Gauge.LARGEST_FREE_RUN),
  );
  counter("kvrm_prefix_evictions_total", "Cached blocks that gave way.", () => level(Gauge.EVICTIONS));
  counter(
    "kvrm_graph_captures_total",
    "Shapes planned or graphs captured since the engine's start.",
    () => level(Gauge.SHAPES_PREPARED),
  );
  counter(
    "kvrm_preemptions_total",
    "Sequences sent back to the queue for lack of blocks.",
    () => stats().preemptions,
  );
  gauge("process_resident_memory_bytes", "Resident memory.", () => Deno.memoryUsage().rss);
  gauge(
    "nodejs_heap_size_used_bytes",
    "Used heap of the server's isolate.",
    () => Deno.memoryUsage().heapUsed,
  );
  gauge(
    "process_start_time_seconds",
    "Start of the process since the epoch.",
    () => performance.timeOrigin / 1000,
  );
  return metrics;
}
