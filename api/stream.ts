/**
 * From running generations to a streamed response.
 *
 * @module
 */

import type { Context } from "hono";
import type { Generation } from "../runtime/types.ts";
import { cancelAll } from "./batch.ts";
import { type ChunkWriter, usageEvent } from "./chunks.ts";
import type { ApiEnv } from "./context.ts";
import { type ApiError, toApiError } from "./errors.ts";
import { type ExtraFields, ExtraFieldsWriter, promptFields } from "./extra_fields.ts";
import type { Identity } from "./identity.ts";
import type { Logger } from "./log.ts";
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
  /** What the events have beside the writer's; absent: nothing. */
  extra?: ExtraFields;
  /** The writer of choice p * n + i. */
  writer: (index: number) => W;
  /** Events that precede a choice's first chunk. */
  opening?: (generation: Generation, prompt: number, writers: readonly W[]) => Promise<string>;
  /** The last events of a stream that went well. Default: usage if asked for, then `[DONE]`. */
  closing?: () => string;
  /** The last event of one that did not. Default: OpenAI's error body. */
  failure?: (error: ApiError) => string;
}

/** A response that streams all choices as they come, then usage if asked for, then `[DONE]`. */
export function streamResponse<W extends ChunkWriter>(
  c: Context<ApiEnv>,
  log: Logger,
  parts: StreamParts<W>,
): Response {
  const stream = new EventStream(() => cancelAll(parts.generations));
  const record = c.get("record");
  const written = writeAll(parts, stream, (error) => {
    if (record !== undefined) record.error = toApiError(error).code;
    const cause = error instanceof Error ? error.message : error;
    if (!c.req.raw.signal.aborted) log.error(`request ${c.get("requestId")}: the stream broke off: ${cause}`);
  });
  record?.follow(stream, written);
  return new Response(stream.body, { headers: STREAM_HEADERS });
}

/** Writes the whole stream; an error becomes its last event and goes to `onError` while there is a reader. */
export async function writeAll<W extends ChunkWriter>(
  parts: StreamParts<W>,
  stream: EventStream,
  onError: (error: unknown) => void,
): Promise<void> {
  const { identity, generations, includeUsage } = parts;
  try {
    await Promise.all(generations.map((generation, prompt) => pump(parts, generation, prompt, stream)));
    if (includeUsage) stream.write(usageEvent(identity, usageBody(generations.map(({ usage }) => usage))));
    stream.write(parts.closing?.() ?? DONE);
  } catch (error) {
    cancelAll(generations);
    if (!stream.closed) onError(error);
    const reported = toApiError(error);
    stream.write(parts.failure?.(reported) ?? event(reported.body));
  }
  stream.close();
}

async function pump<W extends ChunkWriter>(
  parts: StreamParts<W>,
  generation: Generation,
  prompt: number,
  stream: EventStream,
): Promise<void> {
  const { n, writer, opening, extra, includeUsage } = parts;
  const writers = Array.from({ length: n }, (_, i) => writer(prompt * n + i));
  if (opening !== undefined) stream.write(await opening(generation, prompt, writers));
  const aboutPrompt = extra && await promptFields(generation, extra);
  const extras = aboutPrompt &&
    Array.from({ length: n }, () => new ExtraFieldsWriter(aboutPrompt, extra, includeUsage));
  for await (const chunk of generation) {
    if (stream.closed) return;
    const events = writers[chunk.index]!.write(chunk);
    stream.write(extras?.[chunk.index]?.add(events, chunk) ?? events);
    if (stream.full) await stream.drained();
  }
}
