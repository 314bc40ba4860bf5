/**
 * `--startup-report`: where the time from the start of the process to its first token went.
 *
 * @module
 */

/** Collects the ends of phases. Times are milliseconds since the epoch. */
export class StartupReport {
  readonly #start: number;
  readonly #phases: { name: string; time: number }[] = [];

  /** @param start when the process started; default: when its runtime did */
  constructor(start: number = performance.timeOrigin) {
    this.#start = start;
  }

  /** A phase has ended. */
  add(name: string, time: number = performance.timeOrigin + performance.now()): void {
    this.#phases.push({ name, time });
  }

  /** One line per phase: its own milliseconds, and those since the start. */
  text(): string {
    const width = Math.max(...this.#phases.map(({ name }) => name.length));
    let before = this.#start;
    return this.#phases.map(({ name, time }) => {
      const line = `  ${name.padEnd(width)} ${cell(time - before)} ${cell(time - this.#start)}`;
      before = time;
      return line;
    }).join("\n");
  }
}

function cell(milliseconds: number): string {
  return `${milliseconds.toFixed(1)} ms`.padStart(12);
}
