/**
 * `GET /health`: alive, and how busy. `GET /ready`: whether to send requests here, and why not.
 *
 * @module
 */

import { Hono } from "hono";
import type { ApiContext, ApiEnv } from "../context.ts";

/** An engine loop that has not turned for so long is taken for dead. Well above the longest single step. */
const DEAD_AFTER_MS = 60_000;

/** One that has not for so long gets no new requests. */
const LATE_AFTER_MS = 5_000;

/** Routes of the server's state. */
export function healthRoutes(context: ApiContext): Hono<ApiEnv> {
  const { engine } = context;
  return new Hono<ApiEnv>()
    .get("/health", (c) => {
      const { running, waiting, slots, blocks, heartbeatAgeMs } = engine.stats();
      const status = engine.failure !== null ? "failed" : heartbeatAgeMs < DEAD_AFTER_MS ? "ok" : "stalled";
      return c.json(
        { status, model: engine.model.id, running, waiting, slots, blocks },
        status === "ok" ? 200 : 503,
      );
    })
    .get("/ready", (c) => {
      const reasons = reasonsAgainst(context);
      const ready = reasons.length === 0;
      return c.json({ ready, model: engine.model.id, reasons }, ready ? 200 : 503);
    });
}

/** Why no request should be sent here; empty when one may be. */
function reasonsAgainst({ engine, state }: ApiContext): string[] {
  const reasons: string[] = [];
  if (state.draining) reasons.push(`draining: ${state.active} requests are being finished`);
  if (engine.failure !== null) reasons.push(`failed: ${engine.failure.message}`);
  const age = engine.stats().heartbeatAgeMs;
  if (age > LATE_AFTER_MS) reasons.push(`stalled: the engine's loop last turned ${age} ms ago`);
  return reasons;
}

/** What answers probes while the model is loading; null for other requests. */
export function loadingProbe(request: Request): Response | null {
  const { pathname } = new URL(request.url);
  if (pathname === "/health") return Response.json({ status: "loading" });
  if (pathname !== "/ready") return null;
  return Response.json({ ready: false, reasons: ["loading: the model is still loading"] }, { status: 503 });
}
