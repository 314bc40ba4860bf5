/**
 * `GET /health`: alive, and how busy.
 *
 * @module
 */

import { Hono } from "hono";
import type { ApiContext, ApiEnv } from "../context.ts";

/** An engine loop that has not turned for so long is taken for dead. Well above the longest single step. */
const DEAD_AFTER_MS = 60_000;

/** Routes of the server's state. */
export function healthRoutes({ engine }: ApiContext): Hono<ApiEnv> {
  return new Hono<ApiEnv>().get("/health", (c) => {
    const { running, waiting, slots, blocks, heartbeatAgeMs } = engine.stats();
    const status = engine.failure !== null ? "failed" : heartbeatAgeMs < DEAD_AFTER_MS ? "ok" : "stalled";
    return c.json(
      { status, model: engine.model.id, running, waiting, slots, blocks },
      status === "ok" ? 200 : 503,
    );
  });
}
