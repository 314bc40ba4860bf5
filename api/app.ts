/**
 * The HTTP API over an engine.
 *
 * @module
 */

import { type Context, Hono, type MiddlewareHandler } from "hono";
import type { Engine } from "../runtime/types.ts";
import { DEFAULT_MAX_BODY_BYTES } from "./body.ts";
import type { ApiContext, ApiEnv } from "./context.ts";
import { ApiError, toApiError } from "./errors.ts";
import { createLogger, type Logger } from "./log.ts";
import { anthropicError, speaksAnthropic } from "./messages/errors.ts";
import { chatRoutes } from "./routes/chat.ts";
import { completionRoutes } from "./routes/completions.ts";
import { healthRoutes } from "./routes/health.ts";
import { messageRoutes } from "./routes/messages.ts";
import { modelRoutes } from "./routes/models.ts";
import { responseRoutes } from "./routes/responses.ts";
import { tokenizeRoutes } from "./routes/tokenize.ts";
import { versionRoutes } from "./routes/version.ts";
import type { ToolFormat } from "./tools/formats.ts";

/** How the API behaves, beside its engine. */
export interface AppOptions {
  /** Default: silent. */
  log?: Logger;
  /** Larger request bodies get a 413. Default 16 MiB. */
  maxBodyBytes?: number;
  /** How the model writes calls of tools. Default: as its chat template tells. */
  toolFormat?: ToolFormat;
}

const ROUTES = [
  healthRoutes,
  modelRoutes,
  completionRoutes,
  chatRoutes,
  responseRoutes,
  messageRoutes,
  tokenizeRoutes,
  versionRoutes,
];

/** The API as a Hono app: serve its `fetch`. The engine stays the caller's to close. */
export function createApp(
  engine: Engine,
  { log = createLogger("off"), maxBodyBytes = DEFAULT_MAX_BODY_BYTES, toolFormat }: AppOptions = {},
): Hono<ApiEnv> {
  const context: ApiContext = { engine, log, maxBodyBytes, toolFormat: toolFormat ?? null };
  const app = new Hono<ApiEnv>();
  app.use(requestId(), requestLog(log));
  for (const routes of ROUTES) app.route("/", routes(context));
  refuseOtherMethods(app);
  app.notFound((c) =>
    errorResponse(new ApiError(404, `There is no ${c.req.method} ${c.req.path}.`, { code: "unknown_url" }), c)
  );
  app.onError((error, c) => reportError(error, c, log));
  return app;
}

/** Names each request in its response: the client's own name for it, else a new one. */
function requestId(): MiddlewareHandler<ApiEnv> {
  return async function requestId(c, next) {
    const given = c.req.header("x-request-id");
    const id = given !== undefined && /^[\x21-\x7e]{1,128}$/.test(given) ? given : crypto.randomUUID();
    c.set("requestId", id);
    await next();
    c.res.headers.set("x-request-id", id);
  };
}

/** One debug line per request. A stream's time is that to its headers. */
function requestLog(log: Logger): MiddlewareHandler<ApiEnv> {
  return async function requestLog(c, next) {
    const start = performance.now();
    await next();
    const ms = (performance.now() - start).toFixed(1);
    log.debug(`request ${c.get("requestId")}: ${c.req.method} ${c.req.path} ${c.res.status} ${ms} ms`);
  };
}

/** Gives every known path a 405 for the methods that it does not have. */
function refuseOtherMethods(app: Hono<ApiEnv>): void {
  const allowed = new Map<string, string[]>();
  for (const { method, path } of app.routes) {
    if (method === "ALL") continue;
    allowed.set(path, [...allowed.get(path) ?? [], ...(method === "GET" ? ["GET", "HEAD"] : [method])]);
  }
  for (const [path, methods] of allowed) {
    const allow = methods.join(", ");
    app.all(path, (c) => {
      const message = `${c.req.path} has no ${c.req.method}; it has ${allow}.`;
      return errorResponse(new ApiError(405, message, { code: "method_not_allowed", headers: { allow } }), c);
    });
  }
}

function reportError(error: unknown, c: Context<ApiEnv>, log: Logger): Response {
  const reported = toApiError(error);
  // A client that went away is told nothing and is no fault of ours.
  if (reported.status >= 500 && !c.req.raw.signal.aborted) {
    const cause = reported.cause ?? reported;
    log.error(`request ${c.get("requestId")}: ${cause instanceof Error ? cause.stack ?? cause : cause}`);
  }
  return errorResponse(reported, c);
}

/** An error in the dialect of its path. */
function errorResponse(error: ApiError, c: Context<ApiEnv>): Response {
  if (!speaksAnthropic(c.req.path)) return error.toResponse();
  const { status, headers } = error;
  return Response.json(anthropicError(error, c.get("requestId")), { status, headers });
}
