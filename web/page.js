// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />

/** Puts the page's two halves together: the talk, and the machine while the page can be seen. */

import { Machine } from "./machine.js";
import { ask, events, hasKey } from "./server.js";
import { Talk } from "./talk.js";

/** How long to wait before a lost view is looked for again, in milliseconds; doubles up to the limit. */
const AGAIN_MS = 500;
const AGAIN_LIMIT_MS = 8000;

const find = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const talk = new Talk();
const machine = new Machine();

/** @param {number} ms */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Resolves when the page can be seen. */
const seen = () =>
  new Promise((/** @type {(value?: undefined) => void} */ resolve) => {
    const look = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    look();
  });

/** @param {number} count */
function short(count) {
  const units = ["", " thousand", " million", " billion"];
  let i = 0;
  for (; count >= 999.5 && i < units.length - 1; i++) count /= 1000;
  return `${count < 10 ? count.toFixed(1).replace(/\.0$/, "") : Math.round(count)}${units[i]}`;
}

/** @param {any} hello */
function introduce({ model, backend, mode }) {
  const parts = [`${short(model.parameters)} parameters`, model.dtype, `${model.context} tokens`, backend];
  if (mode !== "kv-rm") parts.push(`${mode} mode`);
  find("model").replaceChildren(
    Object.assign(document.createElement("b"), { textContent: model.id }),
    `  ${parts.join(" · ")}`,
  );
  find("links").hidden = hasKey();
  document.title = `${model.id} – kvrm`;
  talk.meet(model);
}

/** Watches the engine while the page can be seen: a hidden page costs the server nothing. */
async function watch() {
  let wait = AGAIN_MS;
  for (;;) {
    await seen();
    const leave = new AbortController();
    const hide = () => document.hidden && leave.abort();
    document.addEventListener("visibilitychange", hide);
    let why = "The server is gone; looking for it.";
    try {
      for await (const event of events(await ask("live", { signal: leave.signal }))) {
        if (event.type === "hello") {
          introduce(event);
          machine.begin(event);
          find("state").textContent = "";
          wait = AGAIN_MS;
        } else if (event.type === "frame") machine.show(event);
      }
    } catch (error) {
      if (error instanceof Error && "status" in error) why = error.message;
    }
    document.removeEventListener("visibilitychange", hide);
    if (leave.signal.aborted) continue;
    machine.pause();
    find("state").textContent = why;
    await pause(wait);
    wait = Math.min(wait * 2, AGAIN_LIMIT_MS);
  }
}

watch();
