/**
 * Who gets into the queue.
 *
 * @module
 */
import type { Choices } from "./choices.ts";
import { EngineError, InvalidRequestError } from "./errors.ts";

/**
 * Whether `n` choices more get places in a queue of `most`, beside those that are there.
 *
 * @throws {InvalidRequestError} when they never will
 * @throws {EngineError} when they do not now; it says when to try again
 */
export function checkQueue(n: number, choices: Choices, most: number): void {
  if (n > most) {
    throw new InvalidRequestError(`n is ${n}; this server's queue holds at most ${most}`, "n");
  }
  if (choices.size + n > most) {
    throw new EngineError(
      `the queue holds ${choices.size} of at most ${most} requests and was asked for ` +
        `${n} more; try again later`,
      "overloaded",
      { retryAfter: choices.retryAfter(choices.size + n - most) },
    );
  }
}
