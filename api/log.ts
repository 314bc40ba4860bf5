/**
 * A logger of one line per event, written to a stream and never through `console`.
 *
 * @module
 */

/** From silent to chatty. */
export const LOG_LEVELS = ["off", "error", "warn", "info", "debug"] as const;

/** How much is written: a level writes itself and all before it. */
export type LogLevel = typeof LOG_LEVELS[number];

/** Writes events as lines. */
export interface Logger {
  error(message: string): void;
  warn(message: string): void;
  info(message: string): void;
  debug(message: string): void;
}

const encoder = new TextEncoder();

/** Writes all of `text` to standard error. */
export function writeStderr(text: string): void {
  let bytes = encoder.encode(text);
  while (bytes.length > 0) bytes = bytes.subarray(Deno.stderr.writeSync(bytes));
}

/** A logger that writes `2026-01-31T12:00:00.000Z LEVEL message` for events up to `level`. */
export function createLogger(level: LogLevel, write: (line: string) => void = writeStderr): Logger {
  const enabled = LOG_LEVELS.indexOf(level);
  const at = (name: LogLevel) =>
    LOG_LEVELS.indexOf(name) > enabled
      ? () => {}
      : (message: string) => write(`${new Date().toISOString()} ${name.toUpperCase()} ${message}\n`);
  return { error: at("error"), warn: at("warn"), info: at("info"), debug: at("debug") };
}
