/**
 * The native library: its records, functions and errors. The only folder that calls `Deno.dlopen`.
 *
 * @module
 */
export { NativeError } from "./errors.ts";
export * from "./layout.ts";
export {
  type Backend,
  type BackendChoice,
  candidateLibraries,
  chooseLibrary,
  type ChosenLibrary,
  libraryPath,
} from "./library_path.ts";
export {
  NativeEngine,
  type NativeEngineConfig,
  type NativeEngineInfo,
  NativeLibrary,
  NativeModel,
  type NativeModelOptions,
  type NativeModelTables,
  type NativeTensor,
} from "./native.ts";
