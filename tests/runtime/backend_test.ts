import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { existsSync } from "node:fs";
import { candidateLibraries, chooseLibrary } from "../../ffi/mod.ts";
import { createEngine, InvalidRequestError } from "../../mod.ts";

const BUILD = new URL("../../build", import.meta.url).pathname;
const CPU = `${BUILD}/libkvrm_cpu.so`;
const EMULATOR = `${BUILD}/libkvrm_emulator.so`;
const needed = { ignore: !existsSync(CPU) };

/** Libraries as they would lie on another machine. */
const built = (cuda: string) => (backend: "cuda" | "cpu") => backend === "cuda" ? cuda : CPU;

Deno.test("chooseLibrary() takes the backend that was asked for, there or not", () => {
  assertEquals(chooseLibrary("cuda", undefined, built("/nowhere/c.so")), {
    path: "/nowhere/c.so",
    gpu: true,
    reason: "it was asked for",
  });
  assertEquals(chooseLibrary("cpu", undefined, built("/nowhere/c.so")).path, CPU);
});

Deno.test("chooseLibrary() of auto falls back to the CPU and says why", needed, async () => {
  const missing = `${BUILD}/libkvrm_cuda.so`;
  if (!existsSync(missing)) {
    assertEquals(chooseLibrary("auto", undefined, built(missing)), {
      path: CPU,
      gpu: false,
      reason: "no CUDA library is built",
    });
  }
  if (Deno.permissions.querySync({ name: "ffi" }).state === "granted") return;
  const forbidden = await Deno.makeTempFile({ suffix: ".so" });
  assertEquals(chooseLibrary("auto", undefined, built(forbidden)), {
    path: CPU,
    gpu: false,
    reason: `--allow-ffi does not list ${forbidden}`,
  });
  await Deno.remove(forbidden);
});

Deno.test("chooseLibrary() of auto takes CUDA where a GPU is there", {
  ignore: !existsSync(EMULATOR),
}, () => {
  assertEquals(chooseLibrary("auto", undefined, built(EMULATOR)), {
    path: EMULATOR,
    gpu: true,
    reason: "a GPU is there",
  });
});

Deno.test("chooseLibrary() takes a library that is named, unless it is for another backend", needed, () => {
  assertEquals(chooseLibrary("auto", CPU), { path: CPU, gpu: false, reason: "its library was named" });
  assertEquals(chooseLibrary("cpu", CPU).path, CPU);
  if (existsSync(EMULATOR)) assertEquals(chooseLibrary("auto", EMULATOR).gpu, true);
  assertThrows(() => chooseLibrary("cuda", CPU), Error, `${CPU} is for cpu, wanted one for cuda`);
});

Deno.test("candidateLibraries() lists both of auto, and only what was named", () => {
  const [cpu, cuda] = candidateLibraries("auto");
  assertMatch(cpu!, /^\/.*\/build\/libkvrm_cpu\.\w+$/);
  assertMatch(cuda!, /^\/.*\/build\/libkvrm_cuda\.\w+$/);
  assertEquals(candidateLibraries("cuda"), [cuda]);
  assertEquals(candidateLibraries("auto", "/a/b.so"), ["/a/b.so"]);
});

Deno.test("createEngine() names the backend at fault", needed, async () => {
  const model = new URL("../../models/tiny", import.meta.url).pathname;
  const refused = await assertRejects(
    () => createEngine({ model, backend: "cuda", libraryPath: CPU }),
    InvalidRequestError,
  );
  assertEquals(refused.param, "backend");
  await using engine = await createEngine({ model, backend: "cpu", threads: 1, kvMemory: 2 ** 23 });
  assert(engine.backend.startsWith("cpu/"));
  assertEquals([engine.backendReason, engine.failure], ["it was asked for", null]);
});
