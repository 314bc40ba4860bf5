/**
 * Where the native library is, and which backend's it is.
 *
 * @module
 */

/** Backends that a library can be built for. */
export type Backend = "cuda" | "cpu";

/** A backend, or "auto": CUDA where its library is there and finds a GPU, else the CPU. */
export type BackendChoice = "auto" | Backend;

/** A library to load. */
export interface ChosenLibrary {
  path: string;
  /** Whether it is known to run on a GPU, with memory of its own. */
  gpu: boolean;
  /** Why this one, as a clause: "no GPU is there". */
  reason: string;
}

/**
 * The path of the library: the one asked for, else KVRM_LIB, else the build beside this program.
 * KVRM_LIB is read only where the permission to do so was given.
 */
export function libraryPath(backend: Backend, asked?: string): string {
  return namedLibrary(asked) ?? builtLibrary(backend);
}

/**
 * The library for a choice of backend. A library that was named is taken as it is, if it is for the backend that
 * was chosen; "auto" asks the CUDA library for a GPU.
 *
 * @param built where each backend's library is built
 * @throws {Error} when the library that was named is for another backend
 */
export function chooseLibrary(
  choice: BackendChoice,
  asked?: string,
  built: (backend: Backend) => string = builtLibrary,
): ChosenLibrary {
  const named = namedLibrary(asked);
  if (named !== undefined) {
    const found = probe(named);
    // One that cannot be loaded says so itself, when it is.
    if ("device" in found && choice !== "auto" && found.backend !== choice) {
      throw new Error(`the native library ${named} is for ${found.backend}, wanted one for ${choice}`);
    }
    return {
      path: named,
      gpu: "device" in found && found.backend === "cuda",
      reason: "its library was named",
    };
  }
  if (choice !== "auto") return { path: built(choice), gpu: choice === "cuda", reason: "it was asked for" };
  const cuda = built("cuda");
  const found = probe(cuda);
  if ("device" in found && found.device !== "none") {
    return { path: cuda, gpu: true, reason: "a GPU is there" };
  }
  return { path: built("cpu"), gpu: false, reason: "device" in found ? "no GPU is there" : found.problem };
}

/** The libraries that {@link chooseLibrary} may take: what the process needs --allow-ffi for. */
export function candidateLibraries(choice: BackendChoice, asked?: string): string[] {
  const named = namedLibrary(asked);
  if (named !== undefined) return [named];
  return choice === "auto" ? [builtLibrary("cpu"), builtLibrary("cuda")] : [builtLibrary(choice)];
}

function namedLibrary(asked: string | undefined): string | undefined {
  if (asked) return asked;
  const allowed = Deno.permissions.querySync({ name: "env", variable: "KVRM_LIB" }).state === "granted";
  return (allowed && Deno.env.get("KVRM_LIB")) || undefined;
}

function builtLibrary(backend: Backend): string {
  const extension = Deno.build.os === "darwin" ? "dylib" : "so";
  return `${import.meta.dirname!.replace(/\/ffi$/, "")}/build/libkvrm_${backend}.${extension}`;
}

/** Loads a library, and asks what it is for: "cuda/none" is a CUDA library without a GPU. */
function probe(path: string): { backend: string; device: string } | { problem: string } {
  if (Deno.permissions.querySync({ name: "ffi", path }).state !== "granted") {
    return { problem: `--allow-ffi does not list ${path}` };
  }
  let library;
  try {
    library = Deno.dlopen(path, { kvrm_backend: { parameters: ["buffer", "u32"], result: "u32" } });
  } catch (error) {
    const message = (error as Error).message;
    return {
      problem: /no such file/i.test(message)
        ? "no CUDA library is built"
        : `the CUDA library fails: ${message}`,
    };
  }
  // It stays loaded: the engine's worker loads it next, and a driver's runtime is better not torn down between.
  const text = new Uint8Array(1024);
  const length = library.symbols.kvrm_backend(text, text.length);
  const [backend = "", device = ""] = new TextDecoder().decode(text.subarray(0, length)).split(/\/(.*)/s);
  return { backend, device };
}
