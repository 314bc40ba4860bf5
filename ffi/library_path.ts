/**
 * Where the native library is.
 *
 * @module
 */

/** Backends that a library can be built for. */
export type Backend = "cpu";

/**
 * The path of the library: the one asked for, else KVRM_LIB, else the build beside this program.
 * KVRM_LIB is read only where the permission to do so was given.
 */
export function libraryPath(backend: Backend, asked?: string): string {
  if (asked) return asked;
  const allowed = Deno.permissions.querySync({ name: "env", variable: "KVRM_LIB" }).state === "granted";
  const fromEnv = allowed ? Deno.env.get("KVRM_LIB") : undefined;
  if (fromEnv) return fromEnv;
  const extension = Deno.build.os === "darwin" ? "dylib" : "so";
  return `${import.meta.dirname}/../build/libkvrm_${backend}.${extension}`;
}
