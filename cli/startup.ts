/**
 * What the server says about itself: when it is ready, and why it cannot be.
 *
 * @module
 */

import { InvalidRequestError } from "../runtime/errors.ts";
import type { Engine } from "../runtime/types.ts";
import { UsageError } from "./arguments.ts";
import { flagOf, OPTIONS } from "./options.ts";
import { formatBytes } from "./values.ts";

/** The exit code of a server whose engine broke: EX_TEMPFAIL of sysexits.h. A supervisor starts it again. */
export const ENGINE_FAILED = 75;

/** The one line of a server that is ready. */
export function readyLine(
  engine: Engine,
  facts: { version: string; url: string; permissions: string },
): string {
  const { model, slots, kvMode, blockTokens, kvBytes } = engine;
  return [
    `kvrm ${facts.version} listens on ${facts.url}`,
    `model ${model.id} (${model.architecture}, ${
      formatCount(model.parameters)
    } parameters, ${model.dtype}, ` +
    `context ${model.maxContext})`,
    `backend ${engine.backend} (${engine.backendReason})`,
    `${slots} slots`,
    `${formatBytes(kvBytes)} KV (${kvMode}, blocks of ${blockTokens})`,
    `permissions ${facts.permissions || "none"}`,
  ].join("; ");
}

/** 1_240_000 as `1.24M`. */
function formatCount(count: number): string {
  const [value, unit] = count >= 1e9
    ? [count / 1e9, "B"]
    : count >= 1e6
    ? [count / 1e6, "M"]
    : [count / 1e3, "k"];
  return `${Number(value.toPrecision(3))}${unit}`;
}

/** An error at start, as one line and an exit code: 2 for what the user asked for, 1 for the rest. */
export function startFailure(error: unknown): { line: string; exitCode: number } {
  if (error instanceof UsageError) return { line: error.message, exitCode: 2 };
  if (error instanceof InvalidRequestError) {
    const flag = error.param !== null && error.param in OPTIONS ? `${flagOf(error.param)}: ` : "";
    return { line: oneLine(flag + error.message), exitCode: 2 };
  }
  return { line: oneLine(error instanceof Error ? error.message : String(error)), exitCode: 1 };
}

/** An error of `Deno.serve` in words that name the address. */
export function listenError(error: unknown, address: string): unknown {
  if (error instanceof Deno.errors.AddrInUse) {
    return new Error(`cannot listen on ${address}: the port is in use; choose another with --port`, {
      cause: error,
    });
  }
  if (error instanceof Deno.errors.NotCapable) {
    return new Error(`cannot listen on ${address}: run with --allow-net=${address}`, { cause: error });
  }
  const reason = error instanceof Error ? error.message : String(error);
  return new Error(`cannot listen on ${address}: ${reason}`, { cause: error });
}

function oneLine(text: string): string {
  return text.replaceAll(/\s*\n\s*/g, " ");
}
