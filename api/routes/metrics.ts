/**
 * `GET /metrics`: Prometheus' text format.
 *
 * @module
 */

import { Hono } from "hono";
import type { ApiContext, ApiEnv } from "../context.ts";
import { metricsOf } from "../telemetry/prometheus.ts";

/** Routes of the measurements. */
export function metricRoutes({ engine }: ApiContext): Hono<ApiEnv> {
  // prom-client takes a tenth of a second to load: only a server that is scraped pays for it.
  const registry = async () => {
    const { default: { Registry } } = await import("prom-client");
    const registry = new Registry();
    for (const metric of metricsOf(engine)) registry.registerMetric(metric);
    return registry;
  };
  let made: ReturnType<typeof registry> | undefined;
  return new Hono<ApiEnv>().get("/metrics", async (c) => {
    const ready = await (made ??= registry());
    return c.body(await ready.metrics(), 200, { "content-type": ready.contentType });
  });
}
