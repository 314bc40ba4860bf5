import { assertEquals, assertMatch } from "@std/assert";
import { createLogger, LOG_LEVELS } from "../../api/log.ts";

for (const [count, level] of LOG_LEVELS.entries()) {
  Deno.test(`createLogger("${level}") writes ${count} of the four kinds of event`, () => {
    const lines: string[] = [];
    const log = createLogger(level, (line) => lines.push(line));
    for (const name of ["error", "warn", "info", "debug"] as const) log[name]("hello");
    assertEquals(lines.length, count);
    for (const line of lines) assertMatch(line, /^\d{4}-\d\d-\d\dT[\d:.]+Z (ERROR|WARN|INFO|DEBUG) hello\n$/);
  });
}
