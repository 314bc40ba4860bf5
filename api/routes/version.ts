/**
 * `GET /version`.
 *
 * @module
 */

import { Hono } from "hono";
import config from "../../deno.json" with { type: "json" };
import type { ApiContext, ApiEnv } from "../context.ts";

/** Routes of what runs here. */
export function versionRoutes({ engine }: ApiContext): Hono<ApiEnv> {
  return new Hono<ApiEnv>()
    .get("/version", (c) => c.json({ version: config.version, backend: engine.backend }));
}
