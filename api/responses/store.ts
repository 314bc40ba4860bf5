/**
 * Responses that were asked to be kept, in memory: the oldest give way.
 *
 * @module
 */

import type { ChatMessage } from "../../runtime/types.ts";
import type { ResponseObject } from "./body.ts";

/** A response and the conversation up to its end, without instructions. */
export interface StoredResponse {
  response: ResponseObject;
  messages: readonly ChatMessage[];
}

/** Keeps at most so many responses, and so much text in them. */
export class ResponseStore {
  readonly #entries = new Map<string, StoredResponse & { size: number }>();
  #size = 0;
  readonly #maxCount: number;
  readonly #maxCharacters: number;

  constructor({ maxCount = 1024, maxCharacters = 32 << 20 } = {}) {
    this.#maxCount = maxCount;
    this.#maxCharacters = maxCharacters;
  }

  /** What is kept under an id. */
  get(id: string): StoredResponse | undefined {
    return this.#entries.get(id);
  }

  /** Keeps a response; one that is larger than the whole store is not kept. */
  put(stored: StoredResponse): void {
    const size = JSON.stringify(stored).length;
    if (size > this.#maxCharacters) return;
    this.#entries.set(stored.response.id, { ...stored, size });
    this.#size += size;
    for (const id of this.#entries.keys()) {
      if (this.#entries.size <= this.#maxCount && this.#size <= this.#maxCharacters) return;
      this.delete(id);
    }
  }

  /** Forgets a response; false where there is none. */
  delete(id: string): boolean {
    const entry = this.#entries.get(id);
    if (entry === undefined) return false;
    this.#size -= entry.size;
    return this.#entries.delete(id);
  }
}
