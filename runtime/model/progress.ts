/**
 * How far a download is, on a terminal.
 *
 * @module
 */

/** How far a download is. */
export interface DownloadProgress {
  /** The file that is being downloaded. */
  file: string;
  /** Bytes of all files so far. */
  bytes: number;
  /** Bytes of all files that are known to be needed. */
  total: number;
}

/** Where a progress bar is drawn. */
export interface ProgressOutput {
  write(text: string): void;
  isTerminal: boolean;
  /** Milliseconds. */
  now(): number;
  columns(): number;
}

const utf8 = new TextEncoder();

/** Standard error. */
export const STDERR: ProgressOutput = {
  write: (text) => void Deno.stderr.writeSync(utf8.encode(text)),
  isTerminal: Deno.stderr.isTerminal(),
  now: () => performance.now(),
  columns: () => {
    try {
      return Deno.consoleSize().columns;
    } catch {
      return 80;
    }
  },
};

const REDRAW_MS = 100;
const BAR_WIDTH = 24;

/** A function that draws progress: a bar that stays in its line on a terminal, else a line for each file. */
export function progressBar(
  title: string,
  out: ProgressOutput = STDERR,
): (progress: DownloadProgress) => void {
  const start = out.now();
  let first: number | null = null;
  let drawn = -Infinity;
  let file = "";
  return (progress) => {
    const { bytes, total } = progress;
    const now = out.now();
    first ??= bytes;
    const done = bytes >= total;
    if (!out.isTerminal) {
      if (file !== progress.file) out.write(`${title}: downloading ${progress.file}\n`);
      file = progress.file;
      return;
    }
    if (!done && now - drawn < REDRAW_MS) return;
    drawn = now;
    const share = total > 0 ? bytes / total : 1;
    const filled = Math.round(BAR_WIDTH * share);
    const rate = (bytes - first) / Math.max(0.001, (now - start) / 1000);
    const bar = "#".repeat(filled).padEnd(BAR_WIDTH, ".");
    const line = `${title} [${bar}] ${Math.floor(share * 100)}% ${formatSize(bytes)}/${formatSize(total)} ${
      formatSize(rate)
    }/s ${progress.file}`;
    out.write(`\r\x1b[K${line.slice(0, out.columns() - 1)}${done ? "\n" : ""}`);
  };
}

/** Bytes in the unit that fits: "1.5 GB". */
export function formatSize(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 999.5 && unit < units.length - 1) {
    bytes /= 1000;
    unit++;
  }
  return `${bytes < 10 && unit > 0 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}
