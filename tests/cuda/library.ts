/**
 * The library that the tests of the GPU backend load.
 *
 * @module
 */
import { existsSync } from "node:fs";

const BUILD = new URL("../../build", import.meta.url).pathname;

/** What a skipped test's name says. */
export const MISSING = " (needs `make emulator`)";

/**
 * `KVRM_GPU_LIB` (on a machine with a GPU: build/libkvrm_cuda.so), else the emulator's build, else undefined.
 */
export function gpuLibrary(): string | undefined {
  const named = Deno.env.get("KVRM_GPU_LIB");
  if (named) return named;
  const emulator = `${BUILD}/libkvrm_emulator.so`;
  return existsSync(emulator) ? emulator : undefined;
}

/** Whether a library is the emulator's: tests are then short. */
export function onEmulator(library: string | undefined): boolean {
  return library?.endsWith("libkvrm_emulator.so") ?? false;
}
