/**
 * Whether the service takes requests, and how many it is answering.
 *
 * @module
 */

/** Shared by the API, which counts, and by whoever ends the process. */
export class ServiceState {
  #draining = false;
  #active = 0;
  #idle: (() => void)[] = [];

  /** True once the service is ending: it finishes what it has and takes nothing more. */
  get draining(): boolean {
    return this.#draining;
  }

  /** Requests being answered, those of probes aside. */
  get active(): number {
    return this.#active;
  }

  /** Takes no more requests from now on. */
  drain(): void {
    this.#draining = true;
  }

  /** A request has come; call the result once it is answered to the last byte. */
  enter(): () => void {
    this.#active++;
    let left = false;
    return () => {
      if (left) return;
      left = true;
      if (--this.#active === 0) { for (const resolve of this.#idle.splice(0)) resolve(); }
    };
  }

  /** Resolves when no request is being answered. */
  async idle(): Promise<void> {
    if (this.#active > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }
}
