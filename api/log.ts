/**
 * A logger of one line per event, written to a stream and never through `console`.
 *
 * @module
 */

/** From silent to chatty. */
export const LOG_LEVELS = ["off", "error", "warn", "info", "debug"] as const;

/** How much is written: a level writes itself and all before it. */
export type LogLevel = typeof LOG_LEVELS[number];

/** Lines for people, or one JSON object per line. */
export const LOG_FORMATS = ["text", "json"] as const;

/** How events are written. */
export type LogFormat = typeof LOG_FORMATS[number];

/** What an event says beside its message; undefined is left out. */
export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** Writes events as lines. */
export interface Logger {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
}

const encoder = new TextEncoder();

/** Writes all of `text` to standard error. */
export function writeStderr(text: string): void {
  let bytes = encoder.encode(text);
  while (bytes.length > 0) bytes = bytes.subarray(Deno.stderr.writeSync(bytes));
}

/**
 * A logger for events up to `level`. As text: `2026-01-31T12:00:00.000Z LEVEL message name=value …`; as json:
 * `{"time", "level", "message", …fields}`.
 */
export function createLogger(
  level: LogLevel,
  write: (line: string) => void = writeStderr,
  format: LogFormat = "text",
): Logger {
  const enabled = LOG_LEVELS.indexOf(level);
  const line = format === "json" ? jsonLine : textLine;
  const at = (name: LogLevel) =>
    LOG_LEVELS.indexOf(name) > enabled
      ? () => {}
      : (message: string, fields: LogFields = {}) =>
        write(`${line(new Date().toISOString(), name, message, fields)}\n`);
  return { error: at("error"), warn: at("warn"), info: at("info"), debug: at("debug") };
}

function textLine(time: string, level: LogLevel, message: string, fields: LogFields): string {
  let line = `${time} ${level.toUpperCase()} ${message}`;
  for (const name in fields) {
    const value = fields[name];
    if (value !== undefined) line += ` ${name}=${typeof value === "string" ? quoted(value) : value}`;
  }
  return line;
}

/** A text as it is where nothing in it could be mistaken for the line's own marks. */
function quoted(text: string): string {
  return /^[^\s"=]+$/.test(text) ? text : JSON.stringify(text);
}

function jsonLine(time: string, level: LogLevel, message: string, fields: LogFields): string {
  return JSON.stringify({ time, level, message, ...fields });
}
