/**
 * Reads how many tests ran from what their runners print. A runner that ends without its closing line, or whose
 * exit status contradicts it, counts as one more failure: a crash must never look like a pass.
 *
 * @module
 */

export interface Skipped {
  name: string;
  /** The test's file as the runner prints it. */
  file: string;
}

export interface Count {
  passed: number;
  failed: number;
  skipped: number;
  /** What was skipped, where the runner says it by name. */
  skippedTests: Skipped[];
  /** Sentences about failures that no test reported. */
  notes: string[];
}

export function emptyCount(): Count {
  return { passed: 0, failed: 0, skipped: 0, skippedTests: [], notes: [] };
}

// deno-lint-ignore no-control-regex -- terminal colours start with ESC
const COLOURS = /\x1b\[[0-9;]*m/g;

function linesOf(output: string): string[] {
  return output.replace(COLOURS, "").split(/\r?\n/);
}

/** Counts the tests of a `deno test`. Steps belong to their test and are not counted. */
export function countDeno(output: string, exitCode: number): Count {
  const count = emptyCount();
  let file = "";
  let closed = false;
  for (const line of linesOf(output)) {
    const running = /^running \d+ tests? from (.+)$/.exec(line);
    if (running) file = running[1]!;
    // Steps are indented.
    const ignored = /^(\S.*) \.\.\. ignored \(/.exec(line);
    if (ignored) count.skippedTests.push({ name: ignored[1]!, file });
    const closing = /^(?:ok|FAILED) \| (\d+) passed\b.* \| (\d+) failed\b(?:.* \| (\d+) ignored\b)?/.exec(
      line,
    );
    if (!closing) continue;
    closed = true;
    count.passed = Number(closing[1]);
    count.failed = Number(closing[2]);
    count.skipped = Number(closing[3] ?? 0);
  }
  if (!closed) fail(count, `deno test ended without its closing line (exit ${exitCode})`);
  else if (exitCode !== 0 && count.failed === 0) fail(count, `deno test passed all, yet exited ${exitCode}`);
  return count;
}

/**
 * Counts native tests: binaries one after the other, each announced by `# path`, one `ok - name` or
 * `not ok - name: why` per test, closed by `native: N passed, M failed`.
 */
export function countNative(output: string, exitCode: number): Count {
  const count = emptyCount();
  let binary: string | null = null;
  let passed = 0;
  let failed = 0;
  let binaries = 0;

  function endOfBinary() {
    if (binary === null) return;
    count.passed += passed;
    count.failed += failed;
    fail(count, `${binary} ended without its closing line`);
  }
  for (const line of linesOf(output)) {
    if (line.startsWith("# ")) {
      endOfBinary();
      [binary, passed, failed] = [line.slice(2), 0, 0];
      binaries++;
    } else if (line.startsWith("ok - ")) passed++;
    else if (line.startsWith("not ok - ")) failed++;
    const closing = /^native: (\d+) passed, (\d+) failed$/.exec(line);
    if (!closing) continue;
    count.passed += Number(closing[1]);
    count.failed += Number(closing[2]);
    if (Number(closing[1]) !== passed || Number(closing[2]) !== failed) {
      fail(count, `${binary}: "${line}", but its lines say ${passed} passed, ${failed} failed`);
    }
    binary = null;
  }
  endOfBinary();
  if (exitCode !== 0 && count.failed === 0) {
    fail(count, `the native tests passed, yet make exited ${exitCode}`);
  } else if (exitCode === 0 && binaries === 0) fail(count, "no native test ran");
  return count;
}

function fail(count: Count, note: string) {
  count.failed++;
  count.notes.push(note);
}
