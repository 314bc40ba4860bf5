/**
 * How the process ends: by signals, or because its engine broke.
 *
 * @module
 */

import type { Logger } from "../api/log.ts";
import type { ServiceState } from "../api/service_state.ts";
import type { Engine } from "../runtime/types.ts";
import { ENGINE_FAILED } from "./startup.ts";

/** How long streams may take to write their last event when the process ends. */
const LAST_WORDS_MS = 1000;

/** What there is to be ended. */
export interface Running {
  server: Deno.HttpServer;
  state: ServiceState;
  log: Logger;
  /** Seconds that running requests have. */
  drainTimeout: number;
}

/**
 * SIGINT and SIGTERM: not ready at once, running requests finish for a while, the rest is cancelled, exit 0. A
 * second signal cancels at once. Until `engineReady` was called there is nothing to finish.
 */
export class Signals {
  readonly #running: Running;
  #engine: Engine | null = null;
  #cancel: (() => void) | null = null;

  constructor(running: Running) {
    this.#running = running;
    for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => this.#stop());
  }

  /** Requests are taken from now on. An engine that breaks takes the process with it. */
  engineReady(engine: Engine): void {
    this.#engine = engine;
    engine.failed.then(async (error) => {
      const { server, state, log } = this.#running;
      state.drain();
      log.error(`${error.message}; the process ends with ${ENGINE_FAILED}`);
      await Promise.race([server.shutdown(), pause(LAST_WORDS_MS)]);
      Deno.exit(ENGINE_FAILED);
    });
  }

  async #stop(): Promise<void> {
    if (this.#cancel !== null) return this.#cancel();
    const { server, state, log, drainTimeout } = this.#running;
    const impatient = new Promise<void>((resolve) => this.#cancel = resolve);
    const engine = this.#engine;
    if (engine === null) Deno.exit(0);
    state.drain();
    log.info("stopping", { requests: state.active, seconds: drainTimeout });
    await Promise.race([state.idle(), pause(drainTimeout * 1000), impatient]);
    if (state.active > 0) log.warn("cancelling what still runs", { requests: state.active });
    // The listener stays open until here: whoever asks is told to ask elsewhere.
    const closed = server.shutdown();
    await engine.close();
    // Streams still owe their readers a last event.
    await Promise.race([closed, pause(LAST_WORDS_MS)]);
    Deno.exit(0);
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
