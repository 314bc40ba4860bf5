/**
 * OpenTelemetry as Deno has it built in (OTEL_DENO=true): the GenAI semantic conventions' spans and metrics.
 * Spans are made when a request has ended, with the times that the engine and its worker noted, so that a
 * request in flight carries nothing, and one that is not sampled costs nothing.
 *
 * @module
 */

import {
  type Attributes,
  type Context,
  context,
  type Histogram,
  metrics,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
  type Tracer,
} from "@opentelemetry/api";
import type { Generation } from "../../runtime/types.ts";
import type { RequestRecord } from "./record.ts";
import type { Place, Tracing } from "./tracing.ts";

/** Seconds; the conventions' buckets start at 10 ms, which is far too late for small models. */
const DURATION_BOUNDS = [
  ...[0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24],
  ...[20.48, 40.96, 81.92],
];
const TOKEN_BOUNDS = [
  ...[0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15],
  ...[0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5],
];

const PROVIDER = "kvrm";

/** The conventions' name for what a route does. */
const OPERATIONS: Readonly<Record<string, string>> = {
  "POST /v1/completions": "text_completion",
};
const DEFAULT_OPERATION = "chat";

/** Tracing through the global providers, which Deno has set. */
export function createTracing(version: string): Tracing {
  const meter = metrics.getMeter("kvrm", version);
  const histogram = (name: string, description: string, bounds: number[]) =>
    meter.createHistogram(name, {
      description,
      unit: "s",
      advice: { explicitBucketBoundaries: bounds },
    });
  return new OpenTelemetry(
    trace.getTracer("kvrm", version),
    histogram("gen_ai.server.request.duration", "Time to the last token.", DURATION_BOUNDS),
    histogram("gen_ai.server.time_to_first_token", "Time to the first token.", DURATION_BOUNDS),
    histogram("gen_ai.server.time_per_output_token", "Time per token after the first.", TOKEN_BOUNDS),
  );
}

class OpenTelemetry implements Tracing {
  constructor(
    readonly tracer: Tracer,
    readonly duration: Histogram,
    readonly timeToFirstToken: Histogram,
    readonly timePerOutputToken: Histogram,
  ) {}

  open(): Place | null {
    return trace.getActiveSpan()?.isRecording() ? context.active() : null;
  }

  name(method: string, path: string): void {
    const span = trace.getActiveSpan();
    span?.updateName(`${method} ${path}`);
    span?.setAttribute("http.route", path);
  }

  close(record: RequestRecord, model: string, place: Place | null): void {
    if (record.generations.length === 0) return;
    const common = {
      "gen_ai.operation.name": OPERATIONS[record.route] ?? DEFAULT_OPERATION,
      "gen_ai.provider.name": PROVIDER,
      "gen_ai.request.model": model,
      "gen_ai.response.model": model,
      ...(errorType(record) !== null && { "error.type": errorType(record)! }),
    };
    this.#measure(record, common);
    if (place !== null) this.#trace(record, common, place as Context);
  }

  #measure(record: RequestRecord, common: Attributes): void {
    this.duration.record((record.ended - record.asked) / 1000, common);
    for (const { timing, usage, finishCount } of record.generations.map(counted)) {
      if (timing.firstToken === 0) continue;
      this.timeToFirstToken.record((timing.firstToken - timing.submitted) / 1000, common);
      const more = usage.completionTokens / finishCount - 1;
      if (more <= 0) continue;
      this.timePerOutputToken.record((timing.lastToken - timing.firstToken) / more / 1000, common);
    }
  }

  #trace(record: RequestRecord, common: Attributes, place: Context): void {
    const { tokens } = record;
    const span = this.tracer.startSpan(
      `${common["gen_ai.operation.name"]} ${common["gen_ai.request.model"]}`,
      {
        kind: SpanKind.INTERNAL,
        startTime: record.asked,
        attributes: {
          ...common,
          ...requestAttributes(record),
          ...(record.responseId !== null && { "gen_ai.response.id": record.responseId }),
          "gen_ai.response.finish_reasons": record.finishReasons,
          "gen_ai.usage.input_tokens": tokens.prompt,
          "gen_ai.usage.cache_read.input_tokens": tokens.cached,
          "gen_ai.usage.output_tokens": tokens.completion,
        },
      },
      place,
    );
    const within = trace.setSpan(place, span);
    for (const generation of record.generations) this.#phases(generation, span, within);
    if (record.error !== null) span.setStatus({ code: SpanStatusCode.ERROR, message: record.error });
    span.end(record.ended);
  }

  /** The parts of one prompt's way, as far as it got. */
  #phases({ timing, usage }: Generation, span: Span, within: Context): void {
    const { submitted, admitted, firstToken, ended, preempted } = timing;
    // Another thread's clock may be a few microseconds off.
    const phase = (name: string, from: number, to: number, attributes: Attributes) => {
      if (from === 0) return;
      const startTime = Math.max(submitted, from);
      this.tracer.startSpan(name, { startTime, attributes }, within)
        .end(Math.max(startTime, to === 0 ? ended : to));
    };
    phase("queue", submitted, admitted, {});
    phase("prefill", admitted, firstToken, {
      "kvrm.prompt_tokens": usage.promptTokens,
      "kvrm.cached_tokens": usage.cachedTokens,
    });
    phase("decode", firstToken, ended, { "kvrm.completion_tokens": usage.completionTokens });
    if (firstToken > 0) span.addEvent("gen_ai.first_token", {}, firstToken);
    for (const time of preempted) span.addEvent("kvrm.preemption", {}, time);
  }
}

function counted({ timing, usage }: Generation) {
  return { timing, usage, finishCount: Math.max(1, timing.finishReasons.length) };
}

function errorType(record: RequestRecord): string | null {
  return record.error ?? (record.clientGone ? "client_gone" : null);
}

/** What was asked for, by the conventions' names; what was not is left out. */
function requestAttributes({ requests, streams }: RequestRecord): Attributes {
  const { sampling = {}, maxTokens, n, stop } = requests[0]!;
  const attributes: Attributes = {
    "gen_ai.request.max_tokens": maxTokens,
    "gen_ai.request.temperature": sampling.temperature,
    "gen_ai.request.top_p": sampling.topP,
    "gen_ai.request.top_k": sampling.topK,
    "gen_ai.request.seed": sampling.seed,
    "gen_ai.request.presence_penalty": sampling.presencePenalty,
    "gen_ai.request.frequency_penalty": sampling.frequencyPenalty,
    "gen_ai.request.choice.count": n !== undefined && n > 1 ? n : undefined,
    "gen_ai.request.stop_sequences": stop === undefined ? undefined : [...stop],
    "gen_ai.request.stream": streams,
  };
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined));
}
