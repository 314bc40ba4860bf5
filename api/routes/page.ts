/**
 * `GET /`: a page to talk to the model and to watch the engine. Its files lie in web/.
 *
 * @module
 */

import { Hono } from "hono";
import type { ApiContext, ApiEnv } from "../context.ts";
import { ApiError } from "../errors.ts";

type Source = () => Promise<{ default: unknown }>;

const SCRIPT = "text/javascript; charset=utf-8";

/** Type and text of each file; read when it is asked for the first time. */
const FILES: Readonly<Record<string, readonly [type: string, source: Source]>> = {
  "/": ["text/html; charset=utf-8", () => import("../../web/index.html", { with: { type: "text" } })],
  "/page/page.css": [
    "text/css; charset=utf-8",
    () => import("../../web/page.css", { with: { type: "text" } }),
  ],
  "/page/page.js": [SCRIPT, () => import("../../web/page.js", { with: { type: "text" } })],
  "/page/talk.js": [SCRIPT, () => import("../../web/talk.js", { with: { type: "text" } })],
  "/page/machine.js": [SCRIPT, () => import("../../web/machine.js", { with: { type: "text" } })],
  "/page/charts.js": [SCRIPT, () => import("../../web/charts.js", { with: { type: "text" } })],
  "/page/pool.js": [SCRIPT, () => import("../../web/pool.js", { with: { type: "text" } })],
  "/page/server.js": [SCRIPT, () => import("../../web/server.js", { with: { type: "text" } })],
};

/** Paths of the page and of what it loads: anybody may read these. */
export const PAGE_PATHS: readonly string[] = Object.keys(FILES);

/** The page loads its own files and asks its own server; nothing else, and nobody frames it. */
const HEADERS = {
  "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cache-control": "no-cache",
};

interface Loaded {
  text: string;
  etag: string;
}

/** Routes of the page. */
export function pageRoutes(_context: ApiContext): Hono<ApiEnv> {
  const loaded = new Map<string, Promise<Loaded>>();
  const serve = async (path: string, known: string | undefined): Promise<Response> => {
    const file = FILES[path];
    if (file === undefined) throw new ApiError(404, `There is no ${path}.`, { code: "unknown_url" });
    const [type, source] = file;
    let reading = loaded.get(path);
    if (reading === undefined) loaded.set(path, reading = load(source));
    const { text, etag } = await reading;
    const headers = { ...HEADERS, "content-type": type, etag };
    return known === etag ? new Response(null, { status: 304, headers }) : new Response(text, { headers });
  };
  return new Hono<ApiEnv>()
    .get("/", (c) => serve("/", c.req.header("if-none-match")))
    .get("/page/:file", (c) => serve(c.req.path, c.req.header("if-none-match")));
}

async function load(source: Source): Promise<Loaded> {
  // It takes twenty milliseconds to load: only a server that is looked at pays for it.
  const { createHash } = await import("node:crypto");
  const text = String((await source()).default);
  return { text, etag: `"${createHash("sha256").update(text).digest("hex").slice(0, 16)}"` };
}
