/**
 * The HTTP API over an engine.
 *
 * @module
 */

import { type Context, Hono, type MiddlewareHandler } from "hono";
import { cors } from "hono/cors";
import type { Engine } from "../runtime/types.ts";
import { requireKey } from "./auth.ts";
import { DEFAULT_MAX_BODY_BYTES } from "./body.ts";
import type { ApiContext, ApiEnv } from "./context.ts";
import { ApiError, toApiError } from "./errors.ts";
import { lazyRoutes } from "./lazy_routes.ts";
import { createLogger, type Logger } from "./log.ts";
import { anthropicError, speaksAnthropic } from "./messages/errors.ts";
import { chatRoutes } from "./routes/chat.ts";
import { completionRoutes } from "./routes/completions.ts";
import { healthRoutes } from "./routes/health.ts";
import { liveRoutes } from "./routes/live.ts";
import { metricRoutes } from "./routes/metrics.ts";
import { modelRoutes } from "./routes/models.ts";
import { pageRoutes } from "./routes/page.ts";
import { versionRoutes } from "./routes/version.ts";
import { ServiceState } from "./service_state.ts";
import { RequestRecord } from "./telemetry/record.ts";
import type { Tracing } from "./telemetry/tracing.ts";
import type { ToolFormat } from "./tools/formats.ts";

/** How the API behaves, beside its engine. */
export interface AppOptions {
  /** Default: silent. */
  log?: Logger;
  /** Larger request bodies get a 413. Default 16 MiB. */
  maxBodyBytes?: number;
  /** Keys, one of which each request has to bear; none: no key is asked for. */
  apiKeys?: readonly string[];
  /** Lets /metrics be read without a key. Default false. */
  metricsWithoutKey?: boolean;
  /** Origins whose pages may call the API, or "*". Default: none. */
  corsOrigins?: readonly string[];
  /** Seconds after which a request ends with an error. Default: no limit. */
  requestTimeout?: number;
  /** Shared with whoever ends the process. */
  state?: ServiceState;
  /** Hears of each request that has ended, to make spans of it. Default: nobody. */
  tracing?: Tracing | null;
  /** How the model writes calls of tools. Default: as its chat template tells. */
  toolFormat?: ToolFormat;
}

const responseRoutes = lazyRoutes(
  ["POST /v1/responses", "GET /v1/responses/:id", "DELETE /v1/responses/:id"],
  async () => (await import("./routes/responses.ts")).responseRoutes,
);
const messageRoutes = lazyRoutes(
  ["POST /v1/messages", "POST /v1/messages/count_tokens"],
  async () => (await import("./routes/messages.ts")).messageRoutes,
);
const tokenizeRoutes = lazyRoutes(
  ["POST /tokenize", "POST /detokenize"],
  async () => (await import("./routes/tokenize.ts")).tokenizeRoutes,
);
const openapiRoutes = lazyRoutes(
  ["GET /openapi.json", "GET /docs"],
  async () => (await import("./routes/openapi.ts")).openapiRoutes,
);

const ROUTES = [
  healthRoutes,
  metricRoutes,
  modelRoutes,
  completionRoutes,
  chatRoutes,
  responseRoutes,
  messageRoutes,
  tokenizeRoutes,
  versionRoutes,
  openapiRoutes,
  pageRoutes,
  liveRoutes,
];

/** The API as a Hono app: serve its `fetch`. The engine stays the caller's to close. */
export function createApp(
  engine: Engine,
  options: AppOptions = {},
): Hono<ApiEnv> {
  const { log = createLogger("off"), maxBodyBytes = DEFAULT_MAX_BODY_BYTES, toolFormat = null } = options;
  const { state = new ServiceState(), apiKeys = [], corsOrigins = [], metricsWithoutKey = false } = options;
  const context: ApiContext = { engine, log, maxBodyBytes, toolFormat, state };
  const app = new Hono<ApiEnv>();
  app.use(requestId(), recordRequests(context, options));
  if (corsOrigins.length > 0) app.use(allowOrigins(corsOrigins));
  if (apiKeys.length > 0) app.use(requireKey({ keys: apiKeys, metricsWithoutKey }));
  app.use(refuseWhileDraining(state));
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

/** Paths of probes and of those who only watch: they are counted nowhere, and written down for debugging only. */
const PROBES = new Set(["/health", "/ready", "/metrics", "/live"]);

/** Keeps a record of each request until its last byte: for the log, the time limit, the spans, the drain. */
function recordRequests(
  { engine, log, state }: ApiContext,
  { requestTimeout = 0, tracing = null }: AppOptions,
): MiddlewareHandler<ApiEnv> {
  return async function recordRequests(c, next) {
    const { method, path } = c.req;
    const route = `${method} ${path}`;
    const probe = PROBES.has(path);
    const leave = probe ? () => {} : state.enter();
    const place = probe ? null : tracing?.open() ?? null;
    const record = new RequestRecord(c.req.raw, c.get("requestId"), route, (ended) => {
      leave();
      const write = probe || method === "OPTIONS" ? log.debug : log.info;
      write("request", ended.logFields(engine.model.id));
      tracing?.close(ended, engine.model.id, place);
    });
    c.set("record", record);
    if (requestTimeout > 0 && method === "POST") record.limit(requestTimeout);
    await next();
    record.status = c.res.status;
    if (place !== null && record.status !== 404) tracing!.name(method, path);
    if (!record.streams) record.end();
  };
}

function allowOrigins(origins: readonly string[]): MiddlewareHandler<ApiEnv> {
  return cors({
    origin: origins.includes("*") ? "*" : [...origins],
    allowMethods: ["GET", "HEAD", "POST", "DELETE"],
    exposeHeaders: ["x-request-id", "retry-after"],
    maxAge: 600,
  });
}

/** Seconds after which a client may hope for another server behind the same name. */
const RETRY_ELSEWHERE_S = 1;

/** A server that ends finishes what it has; what changes nothing it still answers. */
function refuseWhileDraining(state: ServiceState): MiddlewareHandler<ApiEnv> {
  return async function refuseWhileDraining(c, next) {
    if (state.draining && c.req.method === "POST") {
      throw new ApiError(
        503,
        "The server is shutting down; it finishes what it has and takes nothing more.",
        {
          code: "draining",
          headers: { "retry-after": String(RETRY_ELSEWHERE_S), connection: "close" },
        },
      );
    }
    await next();
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
  const record = c.get("record");
  if (record !== undefined) record.error = reported.code;
  return errorResponse(reported, c);
}

/** An error in the dialect of its path. */
function errorResponse(error: ApiError, c: Context<ApiEnv>): Response {
  if (!speaksAnthropic(c.req.path)) return error.toResponse();
  const { status, headers } = error;
  return Response.json(anthropicError(error, c.get("requestId")), { status, headers });
}
