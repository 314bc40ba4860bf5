/**
 * `GET /openapi.json`, and `GET /docs` to read it.
 *
 * @module
 */

import { Hono } from "hono";
import type { ApiContext, ApiEnv } from "../context.ts";
import { openapiDocument } from "../openapi/document.ts";
import { DOCS_PAGE } from "../openapi/page.ts";

/** Routes of the API's description. */
export function openapiRoutes(_context: ApiContext): Hono<ApiEnv> {
  let document: string | null = null;
  return new Hono<ApiEnv>()
    .get("/openapi.json", (c) => {
      document ??= JSON.stringify(openapiDocument());
      return c.body(document, 200, { "content-type": "application/json" });
    })
    .get("/docs", (c) => c.html(DOCS_PAGE));
}
