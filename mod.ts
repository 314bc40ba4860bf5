/**
 * kvrm as a library: one engine, requests in, chunks of text out.
 *
 * ```ts ignore
 * import { createEngine } from "./mod.ts";
 *
 * await using engine = await createEngine({ model: "models/tiny" });
 * for await (const chunk of engine.generate({ prompt: "Once upon a time", maxTokens: 64 })) {
 *   await Deno.stdout.write(new TextEncoder().encode(chunk.text));
 * }
 * ```
 *
 * @module
 */
export { createEngine } from "./runtime/engine.ts";
export type { EngineOptions } from "./runtime/options.ts";
export type { EngineLive, LivePicture } from "./runtime/live.ts";
export { EngineError, InvalidRequestError, ModelError } from "./runtime/errors.ts";
export type { EngineErrorCode } from "./runtime/errors.ts";
export type { GenerationTiming } from "./runtime/telemetry/request_metrics.ts";
export type {
  ChatMessage,
  ChatOptions,
  Constraint,
  Engine,
  EngineStats,
  FarHistoryMode,
  FinishReason,
  GenerateChunk,
  GenerateRequest,
  Generation,
  KvDtype,
  KvMode,
  ModelInfo,
  SamplingParams,
  TokenLogprob,
  Usage,
} from "./runtime/types.ts";
