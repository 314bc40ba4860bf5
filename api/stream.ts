/**
 * From running generations to a streamed response.
 *
 * @module
 */

import type { Generation } from "../runtime/types.ts";
import { cancelAll } from "./batch.ts";
import { type ChunkWriter, usageEvent } from "./chunks.ts";
import { toApiError } from "./errors.ts";
import type { Identity } from "./identity.ts";
import { DONE, event, EventStream } from "./sse.ts";
import { usageBody } from "./usage.ts";

/** Headers of an event stream: nothing between server and client may hold back or rewrite it. */
export const STREAM_HEADERS = {
  "content-type": "text/event-stream",
  "cache-control": "no-cache, no-transform",
  "x-accel-buffering": "no",
};

/** What a streamed response is made of. */
export interface StreamParts<W extends ChunkWriter> {
  identity: Identity;
  /** One generation per prompt, each with n choices. */
  generations: readonly Generation[];
  n: number;
  includeUsage: boolean;
  /** The writer of choice p * n + i. */
  writer: (index: number) => W;
  /** Events that precede a choice's first chunk. */
  opening?: (generation: Generation, prompt: number, writers: readonly W[]) => Promise<string>;
  /** Hears of errors after the headers are out. */
  onError: (error: unknown) => void;
}

/** A response that streams all choices as they come, then usage if asked for, then `[DONE]`. */
export function streamResponse<W extends ChunkWriter>(parts: StreamParts<W>): Response {
  const { generations } = parts;
  const stream = new EventStream(() => cancelAll(generations));
  void run(parts, stream);
  return new Response(stream.body, { headers: STREAM_HEADERS });
}

async function run<W extends ChunkWriter>(parts: StreamParts<W>, stream: EventStream): Promise<void> {
  const { identity, generations, includeUsage, onError } = parts;
  try {
    await Promise.all(generations.map((generation, prompt) => pump(parts, generation, prompt, stream)));
    if (includeUsage) stream.write(usageEvent(identity, usageBody(generations.map(({ usage }) => usage))));
    stream.write(DONE);
  } catch (error) {
    cancelAll(generations);
    if (!stream.closed) onError(error);
    stream.write(event(toApiError(error).body));
  }
  stream.close();
}

async function pump<W extends ChunkWriter>(
  parts: StreamParts<W>,
  generation: Generation,
  prompt: number,
  stream: EventStream,
): Promise<void> {
  const { n, writer, opening } = parts;
  const writers = Array.from({ length: n }, (_, i) => writer(prompt * n + i));
  if (opening !== undefined) stream.write(await opening(generation, prompt, writers));
  for await (const chunk of generation) {
    if (stream.closed) return;
    stream.write(writers[chunk.index]!.write(chunk));
    if (stream.full) await stream.drained();
  }
}
