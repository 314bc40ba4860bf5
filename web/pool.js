// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />

/**
 * The pool as a map: its blocks in order, row by row. Blocks that lie together and belong to the same owner are
 * one bar, so that what can be read in one piece looks like one, and what is cut up looks cut up.
 */

import { fit, INK, ownColour, slotOf } from "./charts.js";

/** Owners, as runtime/kv/owners.ts has them. */
const CACHED = 1, LEAVING = 2, SHARED = 3, SLOT = 16, RESERVED = 1 << 15;
/** Pixels from one square to the next, and of the whole map's height. */
const LEAST = 5, MOST = 15, TALLEST = 240;
/** How long a move can be seen, in milliseconds. */
const TRAIL_MS = 900;
/** Moves shown at once: more would be a tangle. */
const TRAILS = 8;

const still = matchMedia("(prefers-reduced-motion: reduce)");

/** @typedef {{ from: number, to: number, count: number, since: number }} Move */

export class Pool {
  #canvas = /** @type {HTMLCanvasElement} */ (document.getElementById("pool"));
  #at = /** @type {HTMLElement} */ (document.getElementById("pool-at"));
  /** Owner of each square. */
  #cells = new Uint16Array(0);
  #blocksPerCell = 1;
  #blocks = 0;
  #columns = 1;
  #pitch = LEAST;
  /** The slot that is pointed at elsewhere; -1: none. */
  #lit = -1;
  /** The square that is pointed at; -1: none. */
  #cursor = -1;
  /** @type {Move[]} */
  #moves = [];
  #frame = 0;

  constructor() {
    const canvas = this.#canvas;
    new ResizeObserver(() => this.#lay()).observe(canvas);
    canvas.addEventListener(
      "pointermove",
      (event) => this.#point(this.#cellAt(event.offsetX, event.offsetY)),
    );
    canvas.addEventListener(
      "pointerdown",
      (event) => this.#point(this.#cellAt(event.offsetX, event.offsetY)),
    );
    canvas.addEventListener("pointerleave", () => this.#point(-1));
    canvas.addEventListener("blur", () => this.#point(-1));
    canvas.addEventListener("keydown", (event) => {
      const by =
        { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.#columns, ArrowDown: this.#columns }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      this.#point(Math.min(this.#cells.length - 1, Math.max(0, this.#cursor < 0 ? 0 : this.#cursor + by)));
    });
  }

  /** @param {{ cells: number, blocks: number, blocksPerCell: number }} hello */
  begin({ cells, blocks, blocksPerCell }) {
    this.#cells = new Uint16Array(cells);
    this.#blocks = blocks;
    this.#blocksPerCell = blocksPerCell;
    this.#moves = [];
    this.#lay();
  }

  /**
   * @param {number[]} runs owner, how many, owner, how many
   * @param {number[][]} moves from, to, count: blocks
   */
  show(runs, moves) {
    for (let i = 0, at = 0; i + 1 < runs.length; i += 2) {
      this.#cells.fill(/** @type {number} */ (runs[i]), at, at += /** @type {number} */ (runs[i + 1]));
    }
    const since = performance.now();
    for (const [from = 0, to = 0, count = 0] of moves) this.#moves.push({ from, to, count, since });
    this.#moves.splice(0, this.#moves.length - TRAILS);
    this.draw();
    this.#say();
  }

  /** @param {number} slot */
  light(slot) {
    this.#lit = slot;
    this.draw();
  }

  draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#paint();
    });
  }

  #lay() {
    const width = this.#canvas.clientWidth;
    if (width === 0 || this.#cells.length === 0) return;
    const square = Math.sqrt(width * TALLEST / this.#cells.length);
    this.#pitch = Math.max(LEAST, Math.min(MOST, Math.floor(square)));
    const columns = Math.floor(width / this.#pitch);
    this.#columns = columns > 32 ? columns - columns % 8 : columns;
    this.#pitch = width / this.#columns;
    const rows = Math.ceil(this.#cells.length / this.#columns);
    this.#canvas.style.height = `${Math.ceil(rows * this.#pitch)}px`;
    this.draw();
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  #cellAt(x, y) {
    const column = Math.floor(x / this.#pitch);
    const cell = Math.floor(y / this.#pitch) * this.#columns + column;
    return column >= 0 && column < this.#columns && cell >= 0 && cell < this.#cells.length ? cell : -1;
  }

  /** @param {number} cell */
  #point(cell) {
    if (cell === this.#cursor) return;
    this.#cursor = cell;
    this.#say();
    this.draw();
  }

  /** What is under the pointer, in words. */
  #say() {
    const owner = this.#cells[this.#cursor];
    if (owner === undefined) {
      this.#at.textContent = this.#blocksPerCell > 1
        ? `A square is ${this.#blocksPerCell} blocks and shows the busiest of them.`
        : "";
      return;
    }
    const first = this.#cursor * this.#blocksPerCell;
    const last = Math.min(first + this.#blocksPerCell, this.#blocks) - 1;
    const what = owner >= RESERVED
      ? `set aside for slot ${slotOf(owner)}`
      : owner >= SLOT
      ? `slot ${slotOf(owner)}`
      : owner === SHARED
      ? "shared by several slots"
      : owner === LEAVING
      ? "given back, still being read"
      : owner === CACHED
      ? "kept for prompts that begin alike"
      : "free";
    this.#at.textContent = `${last > first ? `Blocks ${first} to ${last}` : `Block ${first}`}: ${what}`;
  }

  /** @param {number} cell */
  #centre(cell) {
    const pitch = this.#pitch;
    return [(cell % this.#columns + 0.5) * pitch, (Math.floor(cell / this.#columns) + 0.5) * pitch];
  }

  #paint() {
    const context = fit(this.#canvas);
    if (context === null) return;
    const cells = this.#cells, columns = this.#columns, pitch = this.#pitch;
    for (let i = 0; i < cells.length;) {
      const owner = /** @type {number} */ (cells[i]);
      const row = Math.floor(i / columns);
      const stop = Math.min((row + 1) * columns, cells.length);
      let end = i + 1;
      while (end < stop && cells[end] === owner) end++;
      this.#paintRun(context, owner, (i - row * columns) * pitch, row * pitch, end - i);
      i = end;
    }
    context.globalAlpha = 1;
    this.#paintMoves(context);
    if (this.#cursor >= 0) {
      const [x = 0, y = 0] = this.#centre(this.#cursor);
      context.strokeStyle = INK.ink;
      context.lineWidth = 1.5;
      context.strokeRect(x - pitch / 2, y - pitch / 2, pitch, pitch);
    }
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {number} owner
   * @param {number} x
   * @param {number} y
   * @param {number} count
   */
  #paintRun(context, owner, x, y, count) {
    const pitch = this.#pitch;
    const middle = y + pitch / 2;
    context.globalAlpha = this.#lit < 0 || (owner >= SLOT && slotOf(owner) === this.#lit) ? 1 : 0.22;
    if (owner === 0) {
      const dot = pitch > 9 ? 2 : 1;
      context.fillStyle = INK.faint;
      for (let i = 0; i < count; i++) {
        context.fillRect(x + (i + 0.5) * pitch - dot / 2, middle - dot / 2, dot, dot);
      }
      return;
    }
    const hollow = owner === LEAVING || owner >= RESERVED;
    const height = owner === CACHED ? Math.max(2, pitch * 0.32) : Math.max(3, pitch * 0.68);
    const colour = owner >= SLOT ? ownColour(slotOf(owner)) : owner === SHARED ? INK.ink : INK.kept;
    const gap = Math.min(1, pitch * 0.1) + (hollow ? 0.5 : 0);
    context.beginPath();
    context.roundRect(x + gap, middle - height / 2, count * pitch - 2 * gap, height, height / 2);
    if (hollow) {
      context.lineWidth = 1;
      context.strokeStyle = colour;
      context.stroke();
    } else {
      context.fillStyle = colour;
      context.fill();
    }
  }

  /** @param {CanvasRenderingContext2D} context */
  #paintMoves(context) {
    const now = performance.now();
    this.#moves = this.#moves.filter(({ since }) => now - since < TRAIL_MS);
    const per = this.#blocksPerCell;
    for (const { from, to, count, since } of this.#moves) {
      const [x0 = 0, y0 = 0] = this.#centre(Math.floor((from + count / 2) / per));
      const [x1 = 0, y1 = 0] = this.#centre(Math.floor((to + count / 2) / per));
      const age = (now - since) / TRAIL_MS;
      context.globalAlpha = still.matches ? 0.7 : 1 - age;
      const owner = this.#cells[Math.floor(to / per)] ?? 0;
      context.strokeStyle = context.fillStyle = owner >= SLOT ? ownColour(slotOf(owner)) : INK.ink;
      context.lineWidth = 1.5;
      const bow = Math.min(60, Math.hypot(x1 - x0, y1 - y0) / 3);
      const cx = (x0 + x1) / 2, cy = Math.max(0, (y0 + y1) / 2 - bow);
      context.beginPath();
      context.moveTo(x0, y0);
      context.quadraticCurveTo(cx, cy, x1, y1);
      context.stroke();
      // Where it went: a head that runs along, or stands at the end.
      const t = still.matches ? 1 : Math.min(1, age * 2);
      const x = (1 - t) ** 2 * x0 + 2 * t * (1 - t) * cx + t * t * x1;
      const y = (1 - t) ** 2 * y0 + 2 * t * (1 - t) * cy + t * t * y1;
      context.beginPath();
      context.arc(x, y, 3, 0, 2 * Math.PI);
      context.fill();
    }
    context.globalAlpha = 1;
    if (this.#moves.length === 0) return;
    if (still.matches) setTimeout(() => this.draw(), TRAIL_MS);
    else this.draw();
  }
}
