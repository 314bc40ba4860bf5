/**
 * How far a model's loading is, seen from another thread than the one that loads.
 *
 * @module
 */

/** Bytes of a running kvrm_model_load; both are 0 while none runs, or nothing is copied. */
export interface LoadBytes {
  done: number;
  all: number;
}

/** A handle of one's own on the library, for a thread that only looks on. */
export class LoadProgress implements Disposable {
  readonly #library;
  readonly #out = new Float64Array(2);
  readonly bytes: LoadBytes = { done: 0, all: 0 };

  /** @throws {Error} when the library cannot be loaded */
  constructor(path: string) {
    this.#library = Deno.dlopen(path, { kvrm_load_progress: { parameters: ["buffer"], result: "i32" } });
  }

  /** The bytes as of now, in the same object each time. */
  read(): LoadBytes {
    this.#library.symbols.kvrm_load_progress(this.#out);
    [this.bytes.done, this.bytes.all] = this.#out as unknown as [number, number];
    return this.bytes;
  }

  [Symbol.dispose](): void {
    this.#library.close();
  }
}
