/**
 * How far the loading of a model's weights is, on a terminal.
 *
 * @module
 */
import { NativeLibrary } from "../../ffi/mod.ts";
import { formatSize, type ProgressOutput, STDERR } from "./progress.ts";

/** Loads that take less than this say nothing. */
const QUIET_MS = 1000;
const POLL_MS = 100;

/**
 * Draws how far a load is: a line that stays in its place on a terminal, else one line when all is there. To be
 * told of each reading, and of the end.
 */
export class LoadingLine {
  readonly #title: string;
  readonly #out: ProgressOutput;
  readonly #start: number;
  #done = 0;
  #all = 0;
  #drawn = false;

  constructor(title: string, out: ProgressOutput = STDERR) {
    this.#title = title;
    this.#out = out;
    this.#start = out.now();
  }

  /** Bytes so far, and in all; both 0 before and after. */
  update({ done, all }: { done: number; all: number }): void {
    if (all === 0) return;
    [this.#done, this.#all] = [done, all];
    if (!this.#out.isTerminal || this.#out.now() - this.#start < QUIET_MS) return;
    this.#drawn = true;
    this.#out.write(`\r\x1b[K${`${this.#title}: ${this.#text()}`.slice(0, this.#out.columns() - 1)}`);
  }

  /** The load has ended; loaded: with all bytes there. */
  end(loaded: boolean): void {
    if (loaded) this.#done = this.#all;
    const seconds = (this.#out.now() - this.#start) / 1000;
    const line = `${this.#title}: ${this.#text()}, ${seconds.toFixed(1)} s`;
    if (this.#drawn) this.#out.write(`\r\x1b[K${line.slice(0, this.#out.columns() - 1)}\n`);
    else if (loaded && this.#all > 0 && seconds * 1000 >= QUIET_MS) this.#out.write(`${line}\n`);
  }

  #text(): string {
    const seconds = Math.max(0.001, (this.#out.now() - this.#start) / 1000);
    const rate = formatSize(this.#done / seconds);
    return `${formatSize(this.#done)} of ${formatSize(this.#all)}, ${rate}/s`;
  }
}

/** Shows how far the load by another thread is until {@link Loading.end}. */
export interface Loading extends Disposable {
  /** Nothing is drawn from here on. */
  end(loaded: boolean): void;
}

/** Looks at the library's counters every tenth of a second. */
export function showLoading(title: string, libraryPath: string, out?: ProgressOutput): Loading {
  let library: NativeLibrary | null = null;
  try {
    library = new NativeLibrary(libraryPath);
  } catch {
    // Whoever loads the model will say what is wrong with its library.
  }
  const line = new LoadingLine(title, out);
  const timer = setInterval(() => library && line.update(library.loadProgress()), POLL_MS);
  let ended = false;
  const end = (loaded: boolean) => {
    if (ended) return;
    ended = true;
    clearInterval(timer);
    line.end(loaded);
    library?.[Symbol.dispose]();
  };
  return { end, [Symbol.dispose]: () => end(false) };
}
