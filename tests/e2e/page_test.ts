import { assert, assertEquals, assertMatch } from "@std/assert";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { CHROMIUM, openPage } from "./browser.ts";
import { atRest, CANNOT_CHAT, CANNOT_RUN, MODEL, startService, until } from "./service.ts";

type Page = Awaited<ReturnType<typeof openPage>>["page"];

const noBrowser = CHROMIUM === undefined ? " (needs Debian's chromium)" : "";
const ignore = CANNOT_RUN || CHROMIUM === undefined;

/** A test that needs a browser. */
function browserTest(name: string, fn: () => Promise<void>, skip = false): void {
  Deno.test({ name: name + noBrowser, ignore: ignore || skip, fn });
}

const text = (page: Page, selector: string) => page.locator(selector).innerText();
const count = async (page: Page, selector: string) =>
  Number((await text(page, selector)).replaceAll(",", ""));
/** Blocks that the legend calls in use. */
const inUse = (page: Page) => count(page, "#legend li:first-child b");

/** Whether the map has a pixel with a hue: only what belongs to a slot has one. */
function hasHue(page: Page): Promise<boolean> {
  return page.evaluate(`(() => {
    const canvas = document.querySelector("#pool");
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < data.length; i += 4) {
      const [r, g, b, a] = data.subarray(i, i + 4);
      if (a > 200 && Math.max(r, g, b) - Math.min(r, g, b) > 60) return true;
    }
    return false;
  })()`);
}

async function ready(page: Page): Promise<void> {
  await page.locator("#legend b").first().waitFor();
}

Deno.test({
  name: "GET / is small, and its policy lets nothing in from elsewhere",
  ignore: CANNOT_RUN,
  fn: async () => {
    await using service = await startService();
    const page = await fetch(`${service.url}/`);
    const html = await page.text();
    const policy = page.headers.get("content-security-policy")!;
    assertMatch(policy, /^default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'/);
    assertEquals(policy.includes("unsafe"), false);
    let bytes = html.length;
    const links = [...html.matchAll(/(?:href|src)="([^"]*)"/g)].map(([, link]) => link!);
    assertEquals(links.filter((link) => /^\w+:|^\//.test(link)), ["data:,"]);
    const pending = links.filter((link) => link.startsWith("page/"));
    const seen = new Set(pending);
    for (const path of pending) {
      const response = await fetch(`${service.url}/${path}`);
      const source = await response.text();
      assertEquals(response.status, 200, path);
      assertEquals(response.headers.get("content-security-policy"), policy);
      assertEquals(/https?:|\/\/\w+\.\w/.test(source.replaceAll(/^\s*\/\/.*$/gm, "")), false, path);
      bytes += source.length;
      for (const [, name] of source.matchAll(/from "\.\/([^"]+)"/g)) {
        if (seen.has(`page/${name}`)) continue;
        seen.add(`page/${name}`);
        pending.push(`page/${name}`);
      }
      const again = await fetch(response.url, {
        headers: { "if-none-match": response.headers.get("etag")! },
      });
      assertEquals([again.status, await again.text()], [304, ""]);
    }
    assert(pending.length >= 7, pending.join());
    assert(bytes < 60_000, `${bytes} bytes`);
    const missing = await fetch(`${service.url}/page/nothing.js`);
    assertEquals([missing.status, (await missing.json()).error.code], [404, "unknown_url"]);
  },
});

browserTest("GET / shows the model, streams a chat, and says how fast it came", async () => {
  await using open = await openPage();
  const { page, engine, complaints } = open;
  await ready(page);
  assertMatch(await text(page, "#model"), new RegExp(`^${engine.model.id} .*parameters.* 2048 tokens`));
  await page.locator("#prompt").focus();
  await page.keyboard.type("Tell me a story about a fox");
  await page.keyboard.press("Enter");
  await page.locator(".turn footer", { hasText: /tokens\/s/ }).waitFor();
  await until(async () => await text(page, "#send") === "Send", "the answer has ended");
  assert((await text(page, ".answer")).length > 50);
  assertMatch(
    await text(page, ".turn footer"),
    /^[\d,]+ tokens · [\d,]+ tokens\/s · first after [\d.]+ m?s$/,
  );
  assertEquals(await page.locator("#prompt").inputValue(), "");
  await page.keyboard.type("And then?");
  await page.keyboard.press("Enter");
  await until(async () => await page.locator(".answer").count() === 2, "the second answer");
  await until(async () => await text(page, "#send") === "Send", "it has ended");
  assertEquals(complaints, []);
}, CANNOT_CHAT);

browserTest("GET / stops an answer, and the engine with it", async () => {
  // One slot for eight answers: they are far from their end whenever they are stopped.
  await using open = await openPage({ endless: true, engine: { slots: 1 } });
  const { page, engine, complaints } = open;
  await ready(page);
  await page.locator("#more").click();
  await page.locator("[value=text]").check();
  await page.locator("[name=n]").fill("8");
  await page.locator("[name=max_tokens]").fill("1900");
  for (const stop of [() => page.keyboard.press("Escape"), () => page.locator("#send").click()]) {
    await page.locator("#prompt").fill("Once upon a time");
    await page.keyboard.press("Enter");
    const footer = page.locator(".turn footer").last();
    await footer.filter({ hasText: "tokens" }).waitFor();
    assertEquals(await text(page, "#send"), "Stop");
    await stop();
    await footer.filter({ hasText: "stopped" }).waitFor();
    assertEquals(await text(page, "#send"), "Send");
    await atRest(engine);
  }
  assert(engine.stats().generatedTokens < 2 * 8 * 1900, "it went on to the end");
  assertEquals(complaints, []);
});

browserTest("GET / shows blocks taken while requests run, and free or kept afterwards", async () => {
  await using open = await openPage({ endless: true, engine: { slots: 4, prefixCache: false } });
  const { page, engine, url, complaints } = open;
  await ready(page);
  assertEquals([await inUse(page), await hasHue(page)], [0, false]);
  const abort = new AbortController();
  const running = fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt: "Once upon a time", n: 64, max_tokens: 2000, stream: true }),
    signal: abort.signal,
  }).then((response) => response.text()).catch(() => {});
  await until(async () => await inUse(page) >= 8 && await hasHue(page), "blocks are shown");
  await until(async () => await page.locator(".slot").count() === 4, "four slots are listed");
  assertMatch(
    await page.locator(".slot").first().getAttribute("aria-label") ?? "",
    /^Slot \d.*blocks? in \d+ groups?$/,
  );
  assertMatch(await text(page, "#n-running"), /^4 of 4$/);
  await until(async () => await count(page, "#n-waiting") === engine.stats().waiting, "those who wait");
  assert(engine.stats().waiting > 0);
  // While steps are made: ten seconds after the last one the page forgets them.
  await until(async () => /^Half within/.test(await text(page, "#times-note")), "times of steps are shown");
  abort.abort();
  await running;
  await atRest(engine);
  await until(async () => await inUse(page) === 0 && !await hasHue(page), "they are free");
  assertEquals(await page.locator(".slot").count(), 0);
  await page.locator("#steps").focus();
  await page.keyboard.press("ArrowLeft");
  assertMatch(await text(page, "#steps-note"), /^Step [\d,]+: .*blocks? in \d+ groups?/);
  await page.locator("#prompt").focus();
  assertMatch(await text(page, "#steps-note"), /^Last: \d+ blocks? in \d+ groups?/);
  assertEquals(complaints, []);
});

browserTest("GET / can be walked through with the keyboard", async () => {
  await using open = await openPage();
  const { page, complaints } = open;
  await ready(page);
  const stops: string[] = [];
  for (let i = 0; i < 12; i++) {
    await page.keyboard.press("Tab");
    stops.push(await page.evaluate("document.activeElement.id || document.activeElement.textContent"));
  }
  for (const id of ["log", "prompt", "more", "send", "pool"]) assert(stops.includes(id), `${id} of ${stops}`);
  await page.locator("#more").focus();
  await page.keyboard.press("Enter");
  assert(await page.locator("[name=temperature]").isVisible());
  await page.locator("#pool").focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  assertEquals(await text(page, "#pool-at"), "Block 1: free");
  assertEquals(complaints, []);
});

browserTest("GET / fits a phone 375 pixels wide", async () => {
  await using open = await openPage({ width: 375 });
  const { page, complaints } = open;
  await ready(page);
  await page.locator("#more").click();
  await page.locator("#prompt").fill("word".repeat(200));
  await page.locator("#send").click();
  await page.locator(".turn footer", { hasText: /token|context/ }).waitFor();
  assertEquals(await page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]"), [
    375,
    375,
  ]);
  assertEquals(complaints, []);
});

browserTest("GET / is dark where the reader's system is", async () => {
  const lightness = (page: Page) =>
    page.evaluate(
      `[document.body, document.querySelector("#talk"), document.querySelector("#prompt")].map((element) => {
      const { color, backgroundColor } = getComputedStyle(element);
      const sum = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).reduce((total, part) => total + Number(part), 0);
      return sum(color) > sum(backgroundColor);
    })`,
    );
  await using open = await openPage({ dark: true });
  const { page, complaints } = open;
  await ready(page);
  assertEquals(await lightness(page), [true, true, true]);
  await page.emulateMedia({ colorScheme: "light" });
  assertEquals(await lightness(page), [false, false, false]);
  assertEquals(complaints, []);
});

browserTest("GET / lets nobody watch while the page is hidden, or closed", async () => {
  await using open = await openPage();
  const { page, engine } = open;
  await ready(page);
  const still = async () => {
    const { version } = engine.live!;
    await new Promise((resolve) => setTimeout(resolve, 300));
    return engine.live!.version === version;
  };
  await until(async () => !await still(), "pictures are made");
  await page.evaluate(`Object.defineProperty(document, "hidden", { configurable: true, get: () => true });
    document.dispatchEvent(new Event("visibilitychange"))`);
  await until(still, "nothing is published");
  await page.evaluate(`delete document.hidden; document.dispatchEvent(new Event("visibilitychange"))`);
  await until(async () => !await still(), "it is again");
  await page.close();
  await until(still, "nothing is published after the end");
});

browserTest("GET / asks for a key where the server does, and keeps it in the tab", async () => {
  await using open = await openPage({ app: { apiKeys: ["the-right-one"] } });
  const { page } = open;
  const field = page.locator("#key-value");
  await field.fill("a-wrong-one");
  await page.keyboard.press("Enter");
  await page.locator("#key-note", { hasText: "not one of" }).waitFor();
  await field.fill("the-right-one");
  await page.keyboard.press("Enter");
  await ready(page);
  await page.locator("#prompt").fill("Once");
  await page.keyboard.press("Enter");
  await page.locator(".turn footer", { hasText: "token" }).waitFor();
  assertEquals(await page.evaluate("[localStorage.length, document.cookie]"), [0, ""]);
  assertEquals(await page.evaluate("Object.values(sessionStorage)"), ["the-right-one"]);
});

browserTest("GET / goes on from a text where the model has no chat template", async () => {
  const folder = Deno.makeTempDirSync();
  try {
    for (const { name } of Deno.readDirSync(MODEL)) {
      if (/^(tokenizer_config\.json|chat_template\..*)$/.test(name)) continue;
      Deno.symlinkSync(join(MODEL, name), join(folder, name));
    }
    const path = join(MODEL, "tokenizer_config.json");
    const { chat_template: _, ...config } = existsSync(path) ? JSON.parse(Deno.readTextFileSync(path)) : {};
    Deno.writeTextFileSync(join(folder, "tokenizer_config.json"), JSON.stringify(config));
    await using open = await openPage({ engine: { model: folder } });
    const { page, complaints } = open;
    await ready(page);
    await page.locator("#more").click();
    assert(await page.locator("[value=chat]").isDisabled());
    await page.locator("#prompt").fill("Once upon a time");
    await page.keyboard.press("Enter");
    await page.locator(".turn footer", { hasText: "token" }).waitFor();
    assert((await text(page, ".answer")).length > 0);
    assertEquals(complaints, []);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

browserTest("GET / moves nothing by itself where the reader wants that", async () => {
  await using open = await openPage();
  const { page } = open;
  await ready(page);
  /** Frames that a pool asks for after three blocks were moved, until it has drawn them for the last time. */
  const frames = () =>
    page.evaluate(`(async () => {
      const { Pool } = await import("./page/pool.js");
      const pool = new Pool();
      pool.begin({ cells: 64, blocks: 64, blocksPerCell: 1 });
      const original = window.requestAnimationFrame, later = window.setTimeout;
      const frame = () => new Promise((resolve) => original(resolve));
      for (let i = 0; i < 3; i++) await frame();
      let frames = 0, timers = 0, drawn = 0;
      window.requestAnimationFrame = (callback) => (frames++, original((time) => (drawn++, callback(time))));
      window.setTimeout = (callback, delay) => (timers++, later(() => (timers--, callback()), delay));
      pool.show([0, 32, 16, 3, 0, 29], [[3, 32, 3]]);
      while (drawn < frames || timers > 0) await frame();
      Object.assign(window, { requestAnimationFrame: original, setTimeout: later });
      return frames;
    })()`) as Promise<number>;
  const lively = await frames();
  await page.emulateMedia({ reducedMotion: "reduce" });
  const still = await frames();
  // One to show where they went, one to take that away; else as many as a machine draws in 0.9 s.
  assert(lively > still && still <= 2, `${lively} and ${still} frames`);
});

browserTest("GET / shows a pool of 150,000 blocks in the room of a small one", async () => {
  await using open = await openPage({ width: 375 });
  const { page, complaints } = open;
  await ready(page);
  const box = await page.evaluate(`(async () => {
    const { Pool } = await import("./page/pool.js");
    const pool = new Pool();
    pool.begin({ cells: 4055, blocks: 150000, blocksPerCell: 37 });
    pool.show([0, 4000, 17, 55], []);
    for (let i = 0; i < 3; i++) await new Promise((resolve) => requestAnimationFrame(resolve));
    return document.querySelector("#pool").getBoundingClientRect().toJSON();
  })()`) as { height: number; width: number };
  assert(box.height <= 360 && box.width <= 375, JSON.stringify(box));
  assertMatch(await text(page, "#pool-at"), /^A square is 37 blocks/);
  assertEquals(await hasHue(page), true);
  assertEquals(complaints, []);
});
