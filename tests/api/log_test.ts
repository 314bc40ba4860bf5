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

Deno.test("createLogger() writes fields as text or as JSON", () => {
  const fields = { id: "a", route: "POST /x", count: 3, gone: false, none: undefined };
  const lines: string[] = [];
  createLogger("info", (line) => lines.push(line)).info("request", fields);
  createLogger("info", (line) => lines.push(line), "json").info("request", fields);
  assertMatch(lines[0]!, /^\S+Z INFO request id=a route="POST \/x" count=3 gone=false\n$/);
  const { time, ...rest } = JSON.parse(lines[1]!);
  assertMatch(time, /Z$/);
  assertEquals(rest, { level: "info", message: "request", id: "a", route: "POST /x", count: 3, gone: false });
});
