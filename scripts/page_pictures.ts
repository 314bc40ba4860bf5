/**
 * Takes the pictures of the page that docs/ has, with several requests running beside the chat.
 *
 *     deno run -A scripts/page_pictures.ts && pngquant --ext .png --force 64 docs/page-*.png
 *
 * @module
 */
import { openPage } from "../tests/e2e/browser.ts";

const WORDS =
  "once upon a time there was a little fox who lived in a boat with an old owl and a song for the rain";
const docs = new URL("../docs/", import.meta.url).pathname;

/** The same numbers each time, from 0 to 1. */
let state = 7;
const random = () => (state = (state * 48271) % 0x7fffffff) / 0x7fffffff;

/** Asks for texts of all lengths until `signal` says so. */
async function work(url: string, signal: AbortSignal): Promise<void> {
  const words = WORDS.split(" ");
  while (!signal.aborted) {
    const length = 20 + Math.floor(random() * 300);
    const body = {
      prompt: Array.from({ length }, () => words[Math.floor(random() * words.length)]).join(" "),
      max_tokens: 100 + Math.floor(random() * 600),
      ignore_eos: true,
      n: random() < 0.15 ? 3 : 1,
    };
    const init = { method: "POST", headers: { "content-type": "application/json" }, signal };
    await fetch(`${url}/v1/completions`, { ...init, body: JSON.stringify(body) })
      .then((response) => response.text()).catch(() => {});
  }
}

await using open = await openPage({ engine: { slots: 8, kvMemory: 28 * 2 ** 20 } });
const { page, url } = open;
const end = new AbortController();
const working = Array.from({ length: 7 }, () => work(url, end.signal));
await page.setViewportSize({ width: 1240, height: 1000 });
await page.locator("#prompt").fill("Tell me a story about a fox and a boat");
await page.keyboard.press("Enter");
await page.locator("#send", { hasText: "Send" }).waitFor();
await page.evaluate("document.activeElement.blur()");
for (const colorScheme of ["light", "dark"] as const) {
  await page.emulateMedia({ colorScheme });
  await page.waitForTimeout(1500);
  await page.screenshot({ path: `${docs}page-${colorScheme}.png` });
}
await page.setViewportSize({ width: 375, height: 812 });
await page.evaluate(`document.querySelector("#numbers").scrollIntoView()`);
await page.waitForTimeout(1000);
await page.screenshot({ path: `${docs}page-phone.png` });
end.abort();
await Promise.all(working);
