/**
 * What the end-to-end tests stand on: the real API over a real socket, on the real engine and a real model.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { existsSync } from "node:fs";
import { type AppOptions, createApp } from "../../api/app.ts";
import { createEngine, type Engine, type EngineOptions } from "../../mod.ts";

/** The repository, without a slash at its end. */
export const ROOT = new URL("../../", import.meta.url).pathname.replace(/\/$/, "");

/** The library that every test's backend comes from. */
export const LIBRARY = `${ROOT}/build/libkvrm_cpu.so`;

const candidates = [
  Deno.env.get("KVRM_TEST_MODEL") ?? "",
  `${ROOT}/models/tiny`,
  `${ROOT}/../shared/models/stories260K`,
];

/** The model under test: KVRM_TEST_MODEL, else the embedded one, else the one in ../shared. */
export const MODEL =
  candidates.find((folder) => folder !== "" && existsSync(`${folder}/model.safetensors`)) ?? "";

/** True where these tests cannot run: no library was built, or no model is here. */
export const CANNOT_RUN = MODEL === "" || !existsSync(LIBRARY);

/** True where chats cannot be tested, beside that. */
export const CANNOT_CHAT = CANNOT_RUN || !hasChatTemplate(MODEL);

function hasChatTemplate(folder: string): boolean {
  return existsSync(`${folder}/chat_template.jinja`) ||
    Deno.readTextFileSync(`${folder}/tokenizer_config.json`).includes('"chat_template"');
}

/** A running API. */
export interface Service extends AsyncDisposable {
  engine: Engine;
  /** Without a slash at its end. */
  url: string;
  /** Posts JSON, or a text as it is. */
  post(path: string, body: unknown, init?: RequestInit): Promise<Response>;
  /** Posts to /v1/completions and expects an answer. */
  // deno-lint-ignore no-explicit-any
  complete(body: Record<string, unknown>): Promise<any>;
}

/** Serves the model under test on a free port. */
export async function startService(
  options: Omit<EngineOptions, "model"> = {},
  appOptions: AppOptions = {},
): Promise<Service> {
  const engine = await createEngine({ model: MODEL, threads: 1, ...options });
  const app = createApp(engine, appOptions);
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, app.fetch);
  const url = `http://127.0.0.1:${server.addr.port}`;
  const post: Service["post"] = (path, body, init) =>
    fetch(url + path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: typeof body === "string" ? body : JSON.stringify(body),
      ...init,
    });
  return {
    engine,
    url,
    post,
    async complete(body) {
      const response = await post("/v1/completions", body);
      const answer = await response.json();
      assertEquals(response.status, 200, JSON.stringify(answer));
      return answer;
    },
    async [Symbol.asyncDispose]() {
      await engine.close();
      await server.shutdown();
    },
  };
}

/** The values of a stream's events up to [DONE]; fails when a line is no event or [DONE] is not the last. */
// deno-lint-ignore no-explicit-any
export async function readEvents(response: Response): Promise<any[]> {
  const lines = (await response.text()).split("\n\n");
  assertEquals(lines.pop(), "");
  assertEquals(lines.pop(), "data: [DONE]");
  return lines.map((line) => {
    assertEquals(line.startsWith("data: "), true, line);
    return JSON.parse(line.slice("data: ".length));
  });
}

/** When waiting is given up. No test is about it: on a busy machine anything may take seconds. */
const PATIENCE_S = 120;

/** Waits until `condition` holds; fails where it never does. */
export async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + PATIENCE_S * 1000;
  while (!await condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${PATIENCE_S} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Ids of a prompt of exactly `count` tokens. */
export function promptOf(engine: Engine, count: number): number[] {
  const story = engine.encode("Once upon a time there was a little fox who lived in a big forest. ");
  const [first, ...rest] = story;
  return [first!, ...Array.from({ length: count - 1 }, (_, i) => rest[i % rest.length]!)];
}

/** Waits until nothing runs, waits or holds a block: an answer may arrive a step before the engine has heard of its end. */
export async function atRest(engine: Engine): Promise<void> {
  await until(() => {
    const { running, waiting, blocks } = engine.stats();
    return running + waiting + blocks.active === 0;
  }, "the engine is at rest");
}
