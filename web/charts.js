// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />

/** Canvases: ink, hues, and the two charts of steps. */

/** Colours of the style sheet, as they are in the light or dark of the moment. */
export const INK = { ink: "", soft: "", faint: "", kept: "", line: "" };
let lightness = "0.6";

/** @type {Set<() => void>} */
const painters = new Set();

/** Has `paint` called when the colours have changed. */
export function onTheme(/** @type {() => void} */ paint) {
  painters.add(paint);
}

function readColours() {
  const probe = document.createElement("i");
  document.body.append(probe);
  const resolve = (/** @type {string} */ name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  for (const name of /** @type {(keyof typeof INK)[]} */ (Object.keys(INK))) INK[name] = resolve(name);
  probe.remove();
  lightness = matchMedia("(prefers-color-scheme: dark)").matches ? "0.74" : "0.62";
  hues.clear();
  for (const paint of painters) paint();
}

/** @type {Map<number, string>} */
const hues = new Map();
readColours();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);

/** A slot's own hue: neighbours are far apart, and all are equally strong. */
export function ownColour(/** @type {number} */ slot) {
  let colour = hues.get(slot);
  if (colour === undefined) {
    hues.set(slot, colour = `oklch(${lightness} 0.13 ${((255 + slot * 137.5) % 360).toFixed(1)})`);
  }
  return colour;
}

/** The slot in an owner's code. */
export function slotOf(/** @type {number} */ owner) {
  return (owner & 0x7fff) - 16;
}

/**
 * An empty context in CSS pixels, sharp on any screen; null where the canvas cannot be seen.
 *
 * @param {HTMLCanvasElement} canvas
 */
export function fit(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (width === 0 || height === 0) return null;
  const ratio = devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  const context = canvas.getContext("2d");
  context?.setTransform(ratio, 0, 0, ratio, 0, 0);
  context?.clearRect(0, 0, width, height);
  return context;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @param {number} height
 */
function bar(context, x, y, width, height) {
  context.beginPath();
  context.roundRect(x, y, width, height, Math.min(1.5, width / 2, height / 2));
  context.fill();
}

/** One step: see StepField in runtime/live.ts. */
export const STEP = {
  NUMBER: 0,
  DECODE: 1,
  PROMPT: 2,
  BLOCKS: 3,
  GROUPS: 4,
  COPIED: 5,
  STAGED: 6,
  EXEC_US: 8,
};
/** Pixels of a step's column; pixels above the columns for what was moved. */
export const COLUMN = 5;
const ABOVE = 14;

/**
 * The latest steps: what each read, in how many groups, and what it moved before.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {number[][]} steps oldest first
 * @param {number} lit the step that is pointed at, from the newest, which is 0; -1: none
 */
export function drawSteps(canvas, steps, lit) {
  const context = fit(canvas);
  if (context === null) return;
  const { clientWidth: width, clientHeight: height } = canvas;
  const shown = steps.slice(-Math.floor(width / COLUMN));
  const most = Math.max(4, ...shown.map((step) => step[STEP.BLOCKS] ?? 0));
  const room = height - ABOVE - 1;
  const high = (/** @type {number} */ count) => count === 0 ? 0 : Math.max(1.5, count / most * room);
  context.fillStyle = INK.line;
  context.fillRect(0, height - 1, width, 1);
  shown.forEach((step, i) => {
    const x = width - (shown.length - i) * COLUMN;
    if (shown.length - 1 - i === lit) {
      context.fillStyle = INK.line;
      context.fillRect(x - 0.5, 0, COLUMN, height);
    }
    const before = high(step[STEP.BLOCKS] ?? 0), after = high(step[STEP.GROUPS] ?? 0);
    context.fillStyle = INK.faint;
    bar(context, x, height - 1 - before, COLUMN - 1, before);
    context.fillStyle = INK.ink;
    bar(context, x, height - 1 - after, COLUMN - 1, after);
    const middle = x + (COLUMN - 1) / 2;
    if (step[STEP.STAGED]) {
      context.beginPath();
      context.arc(middle, 4, 2.4, 0, 2 * Math.PI);
      context.fill();
    }
    if (step[STEP.COPIED]) {
      context.strokeStyle = INK.ink;
      context.lineWidth = 1;
      context.beginPath();
      context.arc(middle, step[STEP.STAGED] ? 10 : 4, 2, 0, 2 * Math.PI);
      context.stroke();
    }
  });
}

/** A time in few characters. */
export function shortTime(/** @type {number} */ seconds) {
  if (seconds < 1e-3) return `${+(seconds * 1e6).toPrecision(2)} µs`;
  return seconds < 1 ? `${+(seconds * 1e3).toPrecision(2)} ms` : `${+seconds.toPrecision(2)} s`;
}

/**
 * Times of steps: a bar for each bucket, those with prompts stacked upon those without.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {readonly number[]} bounds upper bounds in seconds
 * @param {readonly number[][]} counts of decoding alone, and of mixed steps [2][bounds + 1]
 */
export function drawTimes(canvas, bounds, [decode = [], mixed = []]) {
  const context = fit(canvas);
  if (context === null) return;
  const { clientWidth: width, clientHeight: height } = canvas;
  const buckets = bounds.length + 1;
  const pitch = width / buckets;
  const room = height - 20;
  const most = Math.max(1, ...decode.map((count, i) => count + (mixed[i] ?? 0)));
  context.fillStyle = INK.line;
  context.fillRect(0, room, width, 1);
  for (let i = 0; i < buckets; i++) {
    // A single slow step must still be seen.
    const scale = (/** @type {number} */ count) => count === 0 ? 0 : Math.max(1.5, count / most * (room - 2));
    const low = scale(decode[i] ?? 0), high = scale(mixed[i] ?? 0);
    context.fillStyle = INK.ink;
    bar(context, i * pitch + 1, room - low, pitch - 2, low);
    context.fillStyle = INK.faint;
    bar(context, i * pitch + 1, room - low - high, pitch - 2, high);
  }
  context.fillStyle = INK.soft;
  context.font = `11px ${getComputedStyle(canvas).fontFamily}`;
  context.textAlign = "center";
  let free = 0;
  bounds.forEach((bound, i) => {
    const x = (i + 1) * pitch;
    const power = Math.log10(bound);
    if (Math.abs(power - Math.round(power)) > 1e-6 || x < free || x > width - 14) return;
    context.fillRect(x - 0.5, room, 1, 4);
    context.fillText(shortTime(bound), x, height - 4);
    free = x + 44;
  });
}
