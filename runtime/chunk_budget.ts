/**
 * How many prompt tokens a step may compute beside those who decode, so that it takes at most so many times as long as a
 * step without them. What rows cost differs by machine and model: on a CPU each takes its time, on a GPU a few more are
 * free. So it is measured: the time of steps that only decode, by how many do, and of a prompt's row beside them.
 * Nothing here changes what a request's answer is, only when it comes.
 *
 * @module
 */

/** How much the newest measurement counts. */
const WEIGHT = 0.1;
/** Steps shorter than this, in milliseconds, are not worth evening out; their times are mostly noise. */
const SHORT_MS = 0.2;
/** Fewer rows than these are not worth a prompt's waiting. */
const LEAST_ROWS = 8;

/** Measures steps, and says how many prompt tokens the next may have. */
export class ChunkBudget {
  /** Milliseconds of a step in which so many decode and nothing else happens; 0: not seen yet. [slots + 1] */
  readonly #decodeMs: Float64Array;
  /** Milliseconds that a prompt's row adds; 0: not seen yet. */
  #rowMs = 0;
  /** Whether a step that only decodes was seen. */
  #knowsDecoding = false;

  /** @param stretch how many times as long a step may take with prompts as without; 0: any */
  constructor(slots: number, readonly stretch: number) {
    this.#decodeMs = new Float64Array(slots + 1);
  }

  /** A step with so many slots that decoded and so many prompt rows took `ms`. */
  observe(decodes: number, rows: number, ms: number): void {
    if (rows === 0) {
      this.#knowsDecoding ||= decodes > 0;
      if (decodes > 0) this.#decodeMs[decodes] = mean(this.#decodeMs[decodes]!, ms);
      return;
    }
    const alone = decodes > 0 ? this.#decodeTime(decodes) : 0;
    if (decodes > 0 && alone === 0) return;
    this.#rowMs = mean(this.#rowMs, Math.max(0, ms - alone) / rows);
  }

  /**
   * Prompt tokens that a step with so many slots that decode may have; Infinity while nothing is known of prompts. 0 until
   * a step without was seen: where prompts never end, nobody would learn what it takes.
   */
  rows(decodes: number): number {
    if (this.stretch === 0) return Infinity;
    if (!this.#knowsDecoding && decodes > 0) return 0;
    const alone = this.#decodeTime(decodes);
    if (alone < SHORT_MS || this.#rowMs === 0) return Infinity;
    return Math.max(LEAST_ROWS, Math.floor((this.stretch - 1) * alone / this.#rowMs));
  }

  /** Of so many that decode, or of the nearest number that was seen; 0: none was. */
  #decodeTime(decodes: number): number {
    const times = this.#decodeMs;
    for (let distance = 0; distance < times.length; distance++) {
      const below = times[decodes - distance] ?? 0;
      if (below > 0) return below;
      const above = times[decodes + distance] ?? 0;
      if (above > 0) return above;
    }
    return 0;
  }
}

function mean(before: number, value: number): number {
  return before === 0 ? value : before + WEIGHT * (value - before);
}
