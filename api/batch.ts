/**
 * The generations that together answer one HTTP request: one per prompt, running at the same time.
 *
 * @module
 */

import { EngineError } from "../runtime/errors.ts";
import { now } from "../runtime/telemetry/request_metrics.ts";
import type {
  Engine,
  FinishReason,
  GenerateChunk,
  GenerateRequest,
  Generation,
  TokenLogprob,
} from "../runtime/types.ts";
import { recordOf } from "./telemetry/record.ts";

/** A whole choice. */
export interface Choice {
  text: string;
  tokenIds: number[];
  /** Empty unless asked for. */
  logprobs: TokenLogprob[];
  finishReason: WireFinishReason;
  stopReason: string | number | null;
}

/** Why a choice ended, where it did end. */
export type WireFinishReason = Exclude<FinishReason, "cancelled">;

/** Starts all requests, or none: if one is refused, now or by the grammar engine, the others end and its error is thrown. */
export async function startAll(engine: Engine, requests: readonly GenerateRequest[]): Promise<Generation[]> {
  const generations: Generation[] = [];
  const asked = now();
  try {
    for (const request of requests) generations.push(engine.generate(request));
    recordOf(requests[0]?.signal)?.begin(requests, generations, asked);
    await Promise.all(generations.map(({ accepted }) => accepted));
  } catch (error) {
    cancelAll(generations);
    throw error;
  }
  return generations;
}

/** Ends what still runs. */
export function cancelAll(generations: readonly Generation[]): void {
  for (const generation of generations) generation.cancel();
}

/** Runs every generation to its end; choice i of prompt p is at p * n + i. One failure ends them all. */
export async function collectAll(generations: readonly Generation[], n: number): Promise<Choice[]> {
  try {
    return (await Promise.all(generations.map((generation) => collect(generation, n)))).flat();
  } catch (error) {
    cancelAll(generations);
    throw error;
  }
}

async function collect(generation: Generation, n: number): Promise<Choice[]> {
  const choices: Choice[] = Array.from({ length: n }, () => ({
    text: "",
    tokenIds: [],
    logprobs: [],
    finishReason: "length",
    stopReason: null,
  }));
  for await (const chunk of generation) {
    const choice = choices[chunk.index]!;
    choice.text += chunk.text;
    choice.tokenIds.push(...chunk.tokenIds);
    if (chunk.logprobs !== undefined) choice.logprobs.push(...chunk.logprobs);
    const finished = finishReason(chunk);
    if (finished === null) continue;
    choice.finishReason = finished;
    choice.stopReason = chunk.stopReason ?? null;
  }
  return choices;
}

/** The chunk's finish reason; a choice that was cancelled throws, since its answer is not whole. */
export function finishReason(chunk: GenerateChunk): WireFinishReason | null {
  if (chunk.finishReason !== "cancelled") return chunk.finishReason;
  throw new EngineError("The request was cancelled before it was finished.", "closed");
}
