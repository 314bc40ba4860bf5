/**
 * A receiver of OTLP over HTTP as JSON: keeps what it is sent, flattened.
 *
 * @module
 */

/** A span; attributes by name, times in milliseconds since the epoch. */
export interface ReceivedSpan {
  traceId: string;
  spanId: string;
  parentSpanId: string;
  name: string;
  kind: number;
  start: number;
  end: number;
  attributes: Record<string, unknown>;
  events: { name: string; time: number }[];
  /** 2 is an error. */
  statusCode: number;
}

/** A histogram's data point. */
export interface ReceivedPoint {
  name: string;
  unit: string;
  attributes: Record<string, unknown>;
  count: number;
  sum: number;
  bounds: number[];
}

// deno-lint-ignore no-explicit-any
type Json = any;

/** Listens on a free port until it is disposed of. */
export class OtlpReceiver implements AsyncDisposable {
  readonly spans: ReceivedSpan[] = [];
  readonly points: ReceivedPoint[] = [];
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  constructor() {
    this.#server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
      const body = await request.json();
      for (const resource of body.resourceSpans ?? []) this.#takeSpans(resource.scopeSpans);
      for (const resource of body.resourceMetrics ?? []) this.#takeMetrics(resource.scopeMetrics);
      return Response.json({});
    });
  }

  /** What a server needs in its environment to report here, soon. */
  get environment(): Record<string, string> {
    return {
      OTEL_DENO: "true",
      OTEL_DENO_CONSOLE: "ignore",
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${this.#server.addr.port}`,
      OTEL_BSP_SCHEDULE_DELAY: "50",
      OTEL_METRIC_EXPORT_INTERVAL: "100",
    };
  }

  async [Symbol.asyncDispose]() {
    await this.#server.shutdown();
  }

  #takeSpans(scopes: Json): void {
    for (const span of scopes.flatMap((scope: Json) => scope.spans)) {
      this.spans.push({
        traceId: span.traceId,
        spanId: span.spanId,
        parentSpanId: span.parentSpanId,
        name: span.name,
        kind: span.kind,
        start: Number(span.startTimeUnixNano) / 1e6,
        end: Number(span.endTimeUnixNano) / 1e6,
        attributes: attributes(span.attributes),
        events: span.events.map((event: Json) => ({
          name: event.name,
          time: Number(event.timeUnixNano) / 1e6,
        })),
        statusCode: span.status?.code ?? 0,
      });
    }
  }

  #takeMetrics(scopes: Json): void {
    for (const metric of scopes.flatMap((scope: Json) => scope.metrics)) {
      for (const point of metric.histogram?.dataPoints ?? []) {
        this.points.push({
          name: metric.name,
          unit: metric.unit,
          attributes: attributes(point.attributes),
          count: Number(point.count),
          sum: point.sum,
          bounds: point.explicitBounds,
        });
      }
    }
  }
}

function attributes(list: Json): Record<string, unknown> {
  return Object.fromEntries(list.map(({ key, value }: Json) => [key, attribute(value)]));
}

function attribute(value: Json): unknown {
  if (value.arrayValue) return (value.arrayValue.values ?? []).map(attribute);
  const [kind, found] = Object.entries(value)[0]!;
  return kind === "intValue" ? Number(found) : found;
}
