// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />

/** The machine's half of the page: numbers, memory, slots, steps. */

import { COLUMN, drawSteps, drawTimes, fit, INK, onTheme, ownColour, shortTime, STEP } from "./charts.js";
import { Pool } from "./pool.js";

/** Steps that are remembered, slots that are listed, and how far back rates and times look, in milliseconds. */
const STEPS = 400, LISTED = 24, RATE_MS = 1500, TIMES_MS = 10_000;

const find = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const canvas = (/** @type {string} */ id) => /** @type {HTMLCanvasElement} */ (document.getElementById(id));
const number = (/** @type {number} */ value) => Math.round(value).toLocaleString("en");
const plural = (/** @type {number} */ count, /** @type {string} */ noun) =>
  `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

/** Sets a text, where it has changed. */
function say(/** @type {HTMLElement} */ element, /** @type {string} */ text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Row of a slot: its hue, how far its answer is, where it lies. */
class SlotRow {
  /**
   * @param {number} slot
   * @param {Pool} pool
   */
  constructor(slot, pool) {
    this.slot = slot;
    this.element = document.createElement("li");
    this.element.className = "slot";
    this.element.tabIndex = 0;
    const span = (/** @type {string} */ className) =>
      Object.assign(document.createElement("span"), { className });
    this.name = span("name");
    this.name.textContent = String(slot);
    this.bar = Object.assign(document.createElement("canvas"), { className: "bar" });
    this.many = span("many");
    this.how = span("how");
    this.element.append(this.name, this.bar, this.many, this.how);
    for (const type of ["pointerenter", "focus"]) this.element.addEventListener(type, () => pool.light(slot));
    for (const type of ["pointerleave", "blur"]) this.element.addEventListener(type, () => pool.light(-1));
  }

  /** @param {number[]} record slot, then SlotField of runtime/live.ts */
  show([, , tokens = 0, prompt = 0, generated = 0, most = 0, blocks = 0, groups = 0]) {
    this.element.style.setProperty("--own", ownColour(this.slot));
    say(this.many, plural(tokens, "token"));
    say(this.how, `${plural(blocks, "block")} in ${plural(groups, "group")}`);
    const doing = generated > 0 ? "answering" : "reading the prompt";
    this.element.setAttribute(
      "aria-label",
      `Slot ${this.slot}, ${doing}: ${this.many.textContent}, ${this.how.textContent}`,
    );
    const context = fit(this.bar);
    if (context === null) return;
    const { clientWidth: width, clientHeight: height } = this.bar;
    const share = width / Math.max(1, prompt + most);
    const piece = (/** @type {number} */ from, /** @type {number} */ to, /** @type {string} */ colour) => {
      context.fillStyle = colour;
      context.beginPath();
      context.roundRect(from * share, 1, Math.max(0, to - from) * share, height - 2, 3);
      context.fill();
    };
    piece(0, prompt + most, INK.line);
    piece(0, Math.max(tokens, 3 / share), ownColour(this.slot));
    // Where the prompt ends and the answer begins.
    context.fillStyle = INK.ink;
    context.fillRect(Math.min(width - 1, prompt * share), 0, 1, height);
  }
}

export class Machine {
  #pool = new Pool();
  /** @type {any} */
  #hello = null;
  /** @type {any} */
  #last = null;
  /** @type {number[][]} */
  #steps = [];
  /** Counts of the last seconds. @type {{ time: number, generated: number, steps: number }[]} */
  #rates = [];
  /** The same of the step times, once a second. @type {{ time: number, counts: number[][] }[]} */
  #times = [];
  /** @type {Map<number, SlotRow>} */
  #rows = new Map();
  #slow = 0;
  /** The step that is pointed at, from the newest; -1: none. */
  #lit = -1;

  constructor() {
    onTheme(() => this.#redraw());
    for (const id of ["steps", "times"]) new ResizeObserver(() => this.#redraw()).observe(find(id));
    setInterval(() => this.#settle(), 500);
    const steps = canvas("steps");
    for (const type of ["pointermove", "pointerdown"]) {
      steps.addEventListener(type, (event) => {
        this.#point(Math.floor((steps.clientWidth - /** @type {PointerEvent} */ (event).offsetX) / COLUMN));
      });
    }
    for (const type of ["pointerleave", "blur"]) steps.addEventListener(type, () => this.#point(-1));
    steps.addEventListener("keydown", ({ key }) => {
      if (key === "ArrowLeft") this.#point(this.#lit + 1);
      else if (key === "ArrowRight") this.#point(Math.max(0, this.#lit - 1));
    });
  }

  /** @param {any} hello */
  begin(hello) {
    this.#hello = hello;
    this.#rates = [];
    this.#times = [];
    this.#steps = [];
    this.#pool.begin(hello);
    const bytes = hello.blocks * hello.blockBytes;
    find("pool-note").textContent = `${plural(hello.blocks, "block")} of ${hello.blockTokens} tokens, ${
      size(bytes)
    }`;
  }

  /** No pictures for a while. */
  pause() {
    this.#rates = [];
    find("n-rate").textContent = find("n-steps").textContent = "–";
  }

  /** @param {any} frame */
  show(frame) {
    this.#last = frame;
    const time = performance.now();
    const { generated, steps } = frame.counts;
    this.#rates.push({ time, generated, steps });
    this.#steps.push(...frame.steps);
    this.#steps.splice(0, this.#steps.length - STEPS);
    if (this.#times.length === 0 || time - /** @type {any} */ (this.#times.at(-1)).time >= 1000) {
      this.#times.push({ time, counts: frame.stepTimes });
    }
    find("n-running").replaceChildren(
      String(frame.running),
      Object.assign(document.createElement("small"), { textContent: ` of ${this.#hello.slots}` }),
    );
    say(find("n-waiting"), number(frame.waiting));
    this.#pool.show(frame.cells, frame.moves);
    this.#showLegend(frame.blocks);
    this.#showSlots(frame.slots);
    this.#showSteps(frame);
    this.#settle();
  }

  /** Rates and times go on when no picture comes, since nothing happens. */
  #settle() {
    if (this.#last === null) return;
    const now = performance.now();
    const rates = this.#rates;
    while (rates.length > 1 && now - /** @type {any} */ (rates[1]).time > RATE_MS) rates.shift();
    const [first] = rates;
    if (first !== undefined) {
      const seconds = Math.max(0.25, (now - first.time) / 1000);
      const { generated, steps } = this.#last.counts;
      say(find("n-rate"), number((generated - first.generated) / seconds));
      say(find("n-steps"), number((steps - first.steps) / seconds));
    }
    const times = this.#times;
    while (times.length > 1 && now - /** @type {any} */ (times[1]).time > TIMES_MS) times.shift();
    if (now - this.#slow < 400) return;
    this.#slow = now;
    this.#showTimes();
    this.#describe();
  }

  /** @param {any} blocks */
  #showLegend({ total, active, cached, shared, reserved }) {
    const rows = [
      ["owned", "in use", active],
      ["shared", "of these shared", shared],
      ["set-aside", "set aside", reserved],
      ["kept", "kept for later", cached],
      ["free", "free", Math.max(0, total - active - cached - reserved)],
    ];
    const legend = find("legend");
    if (legend.childElementCount === 0) {
      for (const [key, label] of rows) {
        const item = document.createElement("li");
        item.append(
          Object.assign(document.createElement("i"), { className: `key ${key}` }),
          document.createElement("b"),
          ` ${label}`,
        );
        legend.append(item);
      }
    }
    rows.forEach(([, , count], i) => {
      say(/** @type {HTMLElement} */ (legend.children[i]?.querySelector("b")), number(Number(count)));
    });
  }

  /** @param {number[][]} slots */
  #showSlots(slots) {
    const shown = slots.slice(0, LISTED);
    const list = find("slots");
    const kept = new Set(shown.map(([slot]) => slot));
    for (const [slot, row] of this.#rows) {
      if (kept.has(slot)) continue;
      if (row.element.contains(document.activeElement) || row.element.matches(":hover")) this.#pool.light(-1);
      row.element.remove();
      this.#rows.delete(slot);
    }
    shown.forEach((record, i) => {
      const [slot = 0] = record;
      let row = this.#rows.get(slot);
      if (row === undefined) this.#rows.set(slot, row = new SlotRow(slot, this.#pool));
      if (list.children[i] !== row.element) list.insertBefore(row.element, list.children[i] ?? null);
      row.show(record);
    });
    const more = slots.length - shown.length;
    const note = find("slots-note");
    note.hidden = shown.length > 0 && more === 0;
    say(note, more > 0 ? `and ${more} more` : "No slot is in use.");
  }

  /** @param {number} back steps from the newest; -1: none */
  #point(back) {
    this.#lit = Math.min(back, this.#steps.length - 1);
    if (this.#last !== null) this.#showSteps(this.#last);
  }

  /** @param {any} frame */
  #showSteps({ counts }) {
    drawSteps(canvas("steps"), this.#steps, this.#lit);
    const step = this.#steps.at(-1 - Math.max(0, this.#lit));
    if (step === undefined) return;
    const [number_ = 0, decode = 0, prompt = 0, blocks = 0, groups = 0, copied = 0, staged = 0] = step;
    const read = `${plural(blocks, "block")} in ${plural(groups, "group")}`;
    if (this.#lit < 0) {
      const moved = `${number(counts.staged)} moved together, ${number(counts.copied)} copied so far`;
      return say(find("steps-note"), `Last: ${read}; ${moved}`);
    }
    const exec = step[STEP.EXEC_US] ?? -1;
    const parts = [
      decode > 0 ? `${plural(decode, "answer")}` : "",
      prompt > 0 ? `${plural(prompt, "token")} of prompts` : "",
      read,
      staged > 0 ? `${staged} moved` : "",
      copied > 0 ? `${copied} copied` : "",
      exec >= 0 ? shortTime(exec / 1e6) : "",
    ];
    say(find("steps-note"), `Step ${number(number_)}: ${parts.filter((part) => part !== "").join(", ")}`);
  }

  #showTimes() {
    const [first] = this.#times;
    if (first === undefined || this.#last === null) return;
    /** @type {number[][]} */
    const counts = this.#last.stepTimes.map((/** @type {number[]} */ shape, /** @type {number} */ s) =>
      shape.map((count, i) => count - (first.counts[s]?.[i] ?? 0))
    );
    const bounds = this.#hello.stepBounds;
    drawTimes(canvas("times"), bounds, counts);
    const all = bounds.concat(Infinity).map((/** @type {number} */ _, /** @type {number} */ i) =>
      counts.reduce((sum, shape) => sum + (shape[i] ?? 0), 0)
    );
    const half = quantile(bounds, all, 0.5), tail = quantile(bounds, all, 0.99);
    say(
      find("times-note"),
      half === null || tail === null
        ? "None in the last ten seconds."
        : `Half within ${shortTime(half)}, 99 of 100 within ${shortTime(tail)}; the last ten seconds`,
    );
  }

  /** What the pictures show, for those who cannot see them. */
  #describe() {
    const { blocks, slots } = this.#last;
    find("pool").setAttribute(
      "aria-label",
      `The KV cache: ${plural(blocks.active, "block")} of ${slots.length} slots in use, ${
        number(blocks.cached)
      } kept, ` +
        `${number(blocks.total - blocks.active - blocks.cached)} free. Arrow keys walk over the blocks.`,
    );
    const step = this.#steps.at(-1);
    if (step === undefined) return;
    find("steps").setAttribute(
      "aria-label",
      `The latest step read ${plural(step[STEP.BLOCKS] ?? 0, "block")} in ${
        plural(step[STEP.GROUPS] ?? 0, "group")
      }, and moved ` +
        `${number((step[STEP.STAGED] ?? 0) + (step[STEP.COPIED] ?? 0))} before.`,
    );
    find("times").setAttribute("aria-label", `Time of a step: ${find("times-note").textContent}`);
  }

  #redraw() {
    if (this.#last === null) return;
    this.#pool.draw();
    this.#showSlots(this.#last.slots);
    this.#showSteps(this.#last);
    this.#showTimes();
  }
}

/**
 * The upper bound below which the share `q` of the counts lies; null without any.
 *
 * @param {readonly number[]} bounds
 * @param {readonly number[]} counts
 * @param {number} q
 */
function quantile(bounds, counts, q) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  let seen = 0;
  for (let i = 0; i < counts.length; i++) {
    seen += counts[i] ?? 0;
    if (seen >= q * total) return bounds[Math.min(i, bounds.length - 1)] ?? null;
  }
  return null;
}

/** @param {number} bytes */
function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let i = 0;
  for (; bytes >= 1024 && i < units.length - 1; i++) bytes /= 1024;
  return `${bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)} ${units[i]}`;
}
