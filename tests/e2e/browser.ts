/**
 * A headless Chromium for tests of the page, where the machine has one.
 *
 * @module
 */
import fs, { existsSync } from "node:fs";
import type { Page } from "playwright-core";
import { createApp } from "../../api/app.ts";
import type { AppOptions } from "../../api/app.ts";
import { createEngine, type Engine, type EngineOptions } from "../../mod.ts";
import { LIBRARY, MODEL } from "./service.ts";

/** Debian's names of it, the one without a screen first. */
const NAMES = ["chromium-headless-shell", "chromium"];

/** The browser's path; undefined where there is none. */
export const CHROMIUM = (Deno.env.get("PATH") ?? "").split(":")
  .flatMap((folder) => NAMES.map((name) => `${folder}/${name}`))
  .sort((a, b) => NAMES.findIndex((name) => a.endsWith(name)) - NAMES.findIndex((name) => b.endsWith(name)))
  .find((path) => existsSync(path));

/** How a page is served and looked at. */
export interface PageOptions {
  engine?: Partial<EngineOptions>;
  app?: AppOptions;
  /** Answers go on to their full length: a small model's own are over before anybody has looked. */
  endless?: boolean;
  width?: number;
  dark?: boolean;
}

/** An open page, its server, and what went wrong in it. */
export interface OpenPage extends AsyncDisposable {
  page: Page;
  engine: Engine;
  url: string;
  /** Errors of scripts and on the console, and requests to other origins. */
  complaints: string[];
}

/** When it is loaded it looks for files in /proc, which Deno lets nobody do who may not do everything. */
async function playwright(): Promise<typeof import("playwright-core")> {
  const { existsSync } = fs;
  fs.existsSync = (path) => !String(path).startsWith("/proc/") && existsSync(path);
  try {
    return await import("playwright-core");
  } finally {
    fs.existsSync = existsSync;
  }
}

/** Serves the model under test, and opens `GET /` in a browser of its own. */
export async function openPage(options: PageOptions = {}): Promise<OpenPage> {
  await using undo = new AsyncDisposableStack();
  const engine = undo.use(
    await createEngine({ model: MODEL, threads: 1, backend: "cpu", libraryPath: LIBRARY, ...options.engine }),
  );
  const app = createApp(engine, options.app);
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    if (!options.endless || request.method !== "POST") return app.fetch(request);
    const body = JSON.stringify({ ...await request.json(), ignore_eos: true });
    return app.fetch(new Request(request, { body }));
  });
  undo.defer(() => server.shutdown());
  const { chromium } = await playwright();
  const browser = await chromium.launch({ executablePath: CHROMIUM! });
  undo.defer(() => browser.close());
  const page = await browser.newPage({
    viewport: { width: options.width ?? 1280, height: 800 },
    colorScheme: options.dark ? "dark" : "light",
  });
  // Playwright gives up after half a minute; a busy machine may take longer to start a browser's parts.
  page.setDefaultTimeout(120_000);
  const url = `http://127.0.0.1:${server.addr.port}`;
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error.stack)));
  page.on("request", (request) => {
    if (!request.url().startsWith(`${url}/`) && !request.url().startsWith("data:")) {
      complaints.push(request.url());
    }
  });
  await page.goto(`${url}/`);
  const stack = undo.move();
  return { page, engine, url, complaints, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}
