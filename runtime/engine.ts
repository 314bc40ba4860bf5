/**
 * How an engine is made: the model is read, a library chosen, sizes worked out, and a worker started with them.
 *
 * @module
 */
import { candidateLibraries, chooseLibrary, type ChosenLibrary } from "../ffi/mod.ts";
import { InvalidRequestError } from "./errors.ts";
import { type LoadedModel, loadModel } from "./model/folder.ts";
import { resolveModel } from "./model/hub.ts";
import { showLoading } from "./model/loading.ts";
import { type EngineOptions, type EngineSizes, engineSizes } from "./options.ts";
import { SHAPES } from "./sim/cards.ts";
import { simulatedSizes, simulationOf } from "./sim/sizes.ts";
import { now } from "./telemetry/request_metrics.ts";
import type { Engine } from "./types.ts";
import { WorkerEngine } from "./worker_engine.ts";

/**
 * Loads a model and starts an engine for it.
 *
 * @throws {ModelError} when the model's files are missing or wrong
 * @throws {InvalidRequestError} when an option is
 * @throws {EngineError} when the native library cannot be loaded or refuses the model
 */
export async function createEngine(options: EngineOptions): Promise<Engine> {
  // A worker that may not be read complains by itself, on standard error; this throws.
  const path = import.meta.dirname;
  if (path && Deno.permissions.querySync({ name: "read", path }).state !== "granted") await Deno.stat(path);
  // Its modules are loaded while the model's files are read.
  const worker = new Worker(import.meta.resolve("./worker.ts"), { type: "module", name: "kvrm-engine" });
  try {
    return await startEngine(options, worker);
  } catch (error) {
    worker.terminate();
    throw error;
  }
}

async function startEngine(options: EngineOptions, worker: Worker): Promise<Engine> {
  const phase = (name: string) => options.onPhase?.(name, now());
  const path = await resolveModel(options.model);
  const model = await loadModel(path, options.modelId === undefined ? {} : { id: options.modelId });
  phase("configuration and tokenizer read");
  const library = pickLibrary(options);
  const sizes = sizesOf(options, model, library);
  const engine = new WorkerEngine(model, sizes, options, library, worker);
  using loading = library.path === "" ? null : showLoading(`kvrm: loading ${model.id}`, library.path);
  // While the worker loads the weights this thread has nothing else to do.
  model.tokenizer.prepare();
  await engine.started;
  loading?.end(true);
  phase("weights loaded, engine planned");
  return engine;
}

function sizesOf(
  options: EngineOptions,
  { tables, dtype }: LoadedModel,
  { gpu }: ChosenLibrary,
): EngineSizes {
  if (options.backend !== "sim") {
    for (const name of ["simShape", "simCard", "simCards"] as const) {
      if (options[name] === undefined) continue;
      const found = options.backend ?? "auto";
      throw new InvalidRequestError(`${name} is ${options[name]} and backend is ${found}, wanted sim`, name);
    }
    return engineSizes(options, tables, dtype, gpu);
  }
  if (options.quantize !== undefined) {
    throw new InvalidRequestError(
      `quantize is ${options.quantize} and backend is sim, which reckons with 16 bits`,
      "quantize",
    );
  }
  const simulation = simulationOf(options, tables);
  const { maxPosition } = SHAPES[options.simShape ?? "own"] ?? tables.config;
  return simulatedSizes(options, simulation, maxPosition);
}

/**
 * The native library for an engine with these options; without a path for a simulation.
 *
 * @throws {InvalidRequestError} when they contradict each other
 */
export function pickLibrary(
  { backend = "auto", libraryPath }: Pick<EngineOptions, "backend" | "libraryPath">,
): ChosenLibrary {
  if (!["auto", "cuda", "cpu", "sim"].includes(backend)) {
    throw new InvalidRequestError(`backend is ${backend}, wanted one of auto, cuda, cpu, sim`, "backend");
  }
  if (backend === "sim") return { path: "", gpu: true, reason: "steps are simulated, answers made up" };
  try {
    return chooseLibrary(backend, libraryPath);
  } catch (error) {
    throw new InvalidRequestError((error as Error).message, "backend", null, { cause: error });
  }
}

/** The native libraries that an engine with these options may load: what it needs --allow-ffi for. */
export function engineLibraries(options: Pick<EngineOptions, "backend" | "libraryPath">): string[] {
  const { backend = "auto", libraryPath } = options;
  return backend === "sim" ? [] : candidateLibraries(backend, libraryPath);
}
