/**
 * A bar on the terminal while a suite runs; nothing where standard error is a file.
 *
 * @module
 */

/** Shows how far a number of equal parts has come. */
export class Progress implements Disposable {
  #done = 0;
  #label = "";
  readonly #start = performance.now();
  readonly #isTerminal = Deno.stderr.isTerminal();

  constructor(readonly parts: number) {}

  /** The next part begins. */
  begin(label: string): void {
    this.#label = label;
    this.at(0);
  }

  /** So much of the part is done, 0 to 1. */
  at(share: number): void {
    const all = (this.#done + share) / this.parts;
    const passed = (performance.now() - this.#start) / 1000;
    const left = all > 0.02 ? `, ${Math.ceil(passed / all - passed)} s left` : "";
    this.#write(`${bar(all)} ${(100 * all).toFixed(0).padStart(3)} %${left}  ${this.#label}`);
  }

  /** The part has ended. */
  end(): void {
    this.#done++;
    this.at(0);
  }

  [Symbol.dispose](): void {
    if (this.#isTerminal) Deno.stderr.writeSync(new TextEncoder().encode("\r\x1b[K"));
  }

  #write(line: string): void {
    if (this.#isTerminal) Deno.stderr.writeSync(new TextEncoder().encode(`\r\x1b[K${line.slice(0, 100)}`));
  }
}

/** A share as a bar of 24 characters. */
export function bar(share: number): string {
  const full = Math.round(24 * Math.max(0, Math.min(1, share)));
  return "█".repeat(full) + "░".repeat(24 - full);
}
