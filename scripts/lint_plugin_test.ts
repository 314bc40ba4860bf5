import { assertEquals } from "@std/assert";
import plugin from "./lint_plugin.ts";

const root = new URL("../", import.meta.url).pathname;

/** The ids of the rules that a file at `path` with this source breaks. */
function broken(path: string, source: string): string[] {
  return Deno.lint.runPlugin(plugin, root + path, source).map((diagnostic) => diagnostic.id);
}

Deno.test("kvrm/layers refuses an import upward or over a neighbour", () => {
  for (
    const [path, specifier] of [
      ["ffi/native.ts", "../runtime/errors.ts"],
      ["runtime/kv/pager.ts", "../../api/app.ts"],
      ["runtime/engine.ts", "../server.ts"],
      ["api/app.ts", "../ffi/mod.ts"],
      ["mod.ts", "./api/app.ts"],
      ["server.ts", "./ffi/mod.ts"],
      ["runtime/engine.ts", "../tests/helper.ts"],
      ["runtime/engine.ts", "hono"],
      ["ffi/native.ts", "@std/assert"],
      ["api/app.ts", "openai"],
    ] as const
  ) {
    const source = `export { x } from "${specifier}";`;
    assertEquals(broken(path, source), ["kvrm/layers"], `${path} -> ${specifier}`);
    assertEquals(broken(path.replace(/\.ts$/, "_test.ts"), source), [], `a test beside ${path}`);
  }
});

Deno.test("kvrm/layers allows the layer itself and the one below", () => {
  for (
    const [path, specifier] of [
      ["ffi/native.ts", "./symbols.ts"],
      ["runtime/kv/pager.ts", "../errors.ts"],
      ["runtime/engine.ts", "../ffi/mod.ts"],
      ["api/routes/chat.ts", "../../runtime/types.ts"],
      ["api/app.ts", "hono/body-limit"],
      ["mod.ts", "./runtime/engine.ts"],
      ["server.ts", "./api/app.ts"],
      ["server.ts", "./deno.json"],
      ["bench/step.ts", "../runtime/engine.ts"],
      ["bench/step.ts", "openai"],
    ] as const
  ) assertEquals(broken(path, `export { x } from "${specifier}";`), [], `${path} -> ${specifier}`);
});

Deno.test("kvrm/layers sees dynamic imports and the modules of workers", () => {
  assertEquals(broken("ffi/a.ts", `await import("../runtime/engine.ts");`), ["kvrm/layers"]);
  assertEquals(broken("runtime/a.ts", `new Worker(new URL("../api/w.ts", import.meta.url));`), [
    "kvrm/layers",
  ]);
  assertEquals(broken("runtime/a.ts", `new URL("../build/libkvrm_cpu.so", import.meta.url);`), []);
});

Deno.test("kvrm/dlopen-only-in-ffi refuses Deno.dlopen elsewhere, in tests too", () => {
  assertEquals(broken("ffi/native.ts", `Deno.dlopen("x", {});`), []);
  assertEquals(broken("runtime/a.ts", `Deno.dlopen("x", {});`), ["kvrm/dlopen-only-in-ffi"]);
  assertEquals(broken("tests/a_test.ts", `const open = Deno["dlopen"];`), ["kvrm/dlopen-only-in-ffi"]);
});

Deno.test("kvrm/mod-reexports-only refuses code in a mod.ts", () => {
  assertEquals(
    broken("mod.ts", `export * from "./runtime/a.ts"; export type { B } from "./runtime/b.ts";`),
    [],
  );
  assertEquals(broken("ffi/mod.ts", `export const x = 1;`), ["kvrm/mod-reexports-only"]);
});

Deno.test("kvrm/test-names wants a symbol, then a rule", () => {
  for (
    const name of [
      "BlockPager.release() keeps a shared block until its last reader",
      "merge() joins neighbours",
      "POST /v1/completions streams",
      "server.ts exits on SIGTERM",
      "Scheduler: a request keeps its slot",
      "parseRange(text, 3) refuses letters",
      "kvrm/layers allows itself",
    ]
  ) assertEquals(broken("api/a_test.ts", `Deno.test("${name}", () => {});`), [], name);
  for (
    const name of ["works", "it works", "BlockPager", "should free blocks", "BlockPager frees its blocks."]
  ) {
    assertEquals(
      broken("api/a_test.ts", `Deno.test({ name: "${name}", fn() {} });`),
      ["kvrm/test-names"],
      name,
    );
    assertEquals(
      broken("api/a_test.ts", `Deno.test.ignore("${name}", () => {});`),
      ["kvrm/test-names"],
      name,
    );
  }
  assertEquals(broken("api/a_test.ts", "for (const x of y) Deno.test(`${x} keeps the rule`, f);"), []);
  assertEquals(broken("api/a_test.ts", "for (const x of y) Deno.test(`parse() ${x}`, f);"), []);
});
