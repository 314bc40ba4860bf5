/**
 * Bearer keys, compared in a time that tells nothing about them.
 *
 * @module
 */

import type { MiddlewareHandler } from "hono";
import type { ApiEnv } from "./context.ts";
import { ApiError } from "./errors.ts";
import { PAGE_PATHS } from "./routes/page.ts";

/** Paths that probes ask, who have no key, and the page, which asks its reader for one. */
const OPEN_PATHS: readonly string[] = ["/health", "/ready", ...PAGE_PATHS];

/** What guards the API. */
export interface AuthOptions {
  /** At least one. */
  keys: readonly string[];
  /** Lets /metrics be read without a key. */
  metricsWithoutKey: boolean;
}

/** Wants `Authorization: Bearer KEY` (or Anthropic's `x-api-key: KEY`) with one of the keys, else throws a 401. */
export function requireKey({ keys, metricsWithoutKey }: AuthOptions): MiddlewareHandler<ApiEnv> {
  // Ten milliseconds of a start that only a server with keys pays.
  const comparing = import("node:crypto").then(({ createHash, timingSafeEqual }) => {
    const digest = (key: string) => createHash("sha256").update(key).digest();
    const digests = keys.map(digest);
    return (given: string) => {
      const found = digest(given);
      let known = false;
      // Every key is looked at, and digests have one length: the time depends on neither.
      for (const one of digests) known = timingSafeEqual(one, found) || known;
      return known;
    };
  });
  const open = new Set(metricsWithoutKey ? [...OPEN_PATHS, "/metrics"] : OPEN_PATHS);
  return async function requireKey(c, next) {
    if (open.has(c.req.path)) return await next();
    const given = keyOf(c.req.header("authorization"), c.req.header("x-api-key"));
    if (given === null) {
      throw refusal('No API key was given; send one as "Authorization: Bearer KEY".');
    }
    const isKnown = await comparing;
    if (!isKnown(given)) throw refusal("The API key is not one of this server's.");
    await next();
  };
}

function keyOf(authorization: string | undefined, apiKey: string | undefined): string | null {
  const bearer = /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
  return bearer ?? (authorization === undefined ? apiKey ?? null : null);
}

function refusal(message: string): ApiError {
  return new ApiError(401, message, { code: "invalid_api_key", headers: { "www-authenticate": "Bearer" } });
}
