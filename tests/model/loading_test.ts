import { assertEquals } from "@std/assert";
import { LoadingLine } from "../../runtime/model/loading.ts";

function screen(isTerminal: boolean) {
  const written: string[] = [];
  const out = {
    isTerminal,
    ms: 0,
    now: () => out.ms,
    columns: () => 80,
    write: (text: string) => void written.push(text),
  };
  return { out, written };
}

const GB = 1e9;

Deno.test("LoadingLine draws in one place on a terminal, after a second", () => {
  const { out, written } = screen(true);
  const line = new LoadingLine("loading m", out);
  out.ms = 900;
  line.update({ done: GB, all: 16 * GB });
  assertEquals(written, []);
  out.ms = 2000;
  line.update({ done: 4 * GB, all: 16 * GB });
  assertEquals(written, ["\r\x1b[Kloading m: 4.0 GB of 16 GB, 2.0 GB/s"]);
  out.ms = 8000;
  line.update({ done: 0, all: 0 });
  line.end(true);
  assertEquals(written[1], "\r\x1b[Kloading m: 16 GB of 16 GB, 2.0 GB/s, 8.0 s\n");
});

Deno.test("LoadingLine writes one line at the end where there is no terminal", () => {
  const { out, written } = screen(false);
  const line = new LoadingLine("loading m", out);
  out.ms = 2000;
  line.update({ done: 1 * GB, all: 2 * GB });
  assertEquals(written, []);
  out.ms = 4000;
  line.end(true);
  assertEquals(written, ["loading m: 2.0 GB of 2.0 GB, 500 MB/s, 4.0 s\n"]);
});

Deno.test("LoadingLine says nothing of short loads, of mapped ones and of those that fail at once", () => {
  for (const [ms, all, loaded] of [[999, GB, true], [5000, 0, true], [5000, GB, false]] as const) {
    const { out, written } = screen(false);
    const line = new LoadingLine("loading m", out);
    line.update({ done: all / 2, all });
    out.ms = ms;
    line.end(loaded);
    assertEquals(written, []);
  }
});
