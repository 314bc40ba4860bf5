/**
 * `POST /v1/responses`, and what is kept of it: `GET` and `DELETE /v1/responses/{id}`.
 *
 * @module
 */

import { type Context, Hono } from "hono";
import { InvalidRequestError } from "../../runtime/errors.ts";
import type { ChatMessage, Engine, GenerateChunk, Generation, TokenLogprob } from "../../runtime/types.ts";
import { collectAll, finishReason, startAll } from "../batch.ts";
import { readJson } from "../body.ts";
import type { ChunkWriter } from "../chunks.ts";
import type { ApiContext, ApiEnv } from "../context.ts";
import { type PreparedTurn, prepareTurn } from "../conversation.ts";
import { ApiError } from "../errors.ts";
import { newIdentity } from "../identity.ts";
import { requireChatTemplate, requireModel } from "../requests.ts";
import { finishedResponse, newResponse, type ResponseObject } from "../responses/body.ts";
import { inputMessages, responseConversation, responseRequest } from "../responses/input.ts";
import { OutputWriter } from "../responses/output.ts";
import { checkResponse, type InputItem, type ResponseBody, responseBody } from "../responses/schema.ts";
import { ResponseStore, type StoredResponse } from "../responses/store.ts";
import { validate } from "../schemas/validate.ts";
import { streamResponse } from "../stream.ts";
import type { TurnEvent } from "../tools/events.ts";
import type { TurnParser } from "../tools/turn.ts";
import { countTokens } from "../usage.ts";

/** Routes of responses. */
export function responseRoutes(context: ApiContext): Hono<ApiEnv> {
  const store = new ResponseStore();
  return new Hono<ApiEnv>()
    .post("/v1/responses", (c) => respond(context, store, c))
    .get("/v1/responses/:id", (c) => c.json(stored(store, c.req.param("id")).response))
    .delete("/v1/responses/:id", (c) => {
      const { id } = stored(store, c.req.param("id")).response;
      store.delete(id);
      return c.json({ id, object: "response", deleted: true });
    });
}

function stored(store: ResponseStore, id: string): StoredResponse {
  const found = store.get(id);
  if (found !== undefined) return found;
  const message = `There is no response ${JSON.stringify(id)}: it was not stored, or gave way to newer ones.`;
  throw new ApiError(404, message, { code: "response_not_found" });
}

async function respond(context: ApiContext, store: ResponseStore, c: Context<ApiEnv>): Promise<Response> {
  const { engine, log, maxBodyBytes, toolFormat } = context;
  const body = validate(responseBody, await readJson(c.req.raw, maxBodyBytes));
  checkResponse(body);
  requireModel(engine.model, body.model);
  requireChatTemplate(engine.model);
  const before = messagesBefore(store, body.previous_response_id ?? null);
  const turn = prepareTurn(engine, responseConversation(body, before), toolFormat);
  const [generation] = await startAll(engine, [responseRequest(body, turn, c.req.raw.signal)]) as [
    Generation,
  ];
  const writer = new ResponseWriter(engine, body, turn, generation, (response) => {
    if (response.store) store.put({ response, messages: [...before, ...conversationWith(body, response)] });
  });
  const record = c.get("record");
  if (record !== undefined) record.responseId = writer.response.id;
  if (!body.stream) {
    const [choice] = await collectAll([generation], 1);
    const { text, logprobs, finishReason } = choice!;
    writer.write({ index: 0, text, tokenIds: [], logprobs, finishReason });
    writer.close();
    return Response.json(writer.response);
  }
  return streamResponse(c, log, {
    identity: newIdentity("resp", "response", engine.model.id),
    generations: [generation],
    n: 1,
    includeUsage: false,
    writer: () => writer,
    opening: () => Promise.resolve(writer.open()),
    closing: () => writer.close(),
    failure: (error) => writer.fail(error),
  });
}

function messagesBefore(store: ResponseStore, id: string | null): readonly ChatMessage[] {
  if (id === null) return [];
  const found = store.get(id);
  if (found !== undefined) return found.messages;
  throw new InvalidRequestError(
    `previous_response_id is ${JSON.stringify(id)}; it must be that of a response which is stored: ` +
      "asked for with store true, and not yet given way to newer ones.",
    "previous_response_id",
    "previous_response_not_found",
  );
}

/** What a response adds to its conversation. */
function conversationWith(body: ResponseBody, response: ResponseObject): ChatMessage[] {
  const input = typeof body.input === "string"
    ? [{ role: "user" as const, content: body.input }]
    : body.input;
  return inputMessages([...input, ...response.output as unknown as InputItem[]]);
}

/** Events of one response, and the response itself. */
class ResponseWriter implements ChunkWriter {
  response: ResponseObject;
  readonly #output = new OutputWriter();
  readonly #parser: TurnParser | null;
  readonly #engine: Engine;
  readonly #generation: Generation;
  readonly #done: (response: ResponseObject) => void;
  /** Of tokens whose text is not yet out. */
  #logprobs: TokenLogprob[] = [];
  #cut = false;

  constructor(
    engine: Engine,
    body: ResponseBody,
    turn: PreparedTurn,
    generation: Generation,
    done: (response: ResponseObject) => void,
  ) {
    this.response = newResponse(body, engine.model);
    this.#parser = turn.newParser?.() ?? null;
    this.#engine = engine;
    this.#generation = generation;
    this.#done = done;
  }

  /** The first events. */
  open(): string {
    const { response } = this;
    return this.#output.event("response.created", { response }) +
      this.#output.event("response.in_progress", { response });
  }

  write(chunk: GenerateChunk): string {
    if (chunk.logprobs !== undefined) this.#logprobs.push(...chunk.logprobs);
    for (const event of this.#eventsOf(chunk)) {
      this.#output.take(event, event.type === "text" ? this.#logprobs : []);
      if (this.#logprobs.length > 0) this.#logprobs = [];
    }
    if (chunk.finishReason !== null) {
      this.#cut = finishReason(chunk) === "length";
      this.#output.finish(this.#cut ? "incomplete" : "completed");
    }
    return this.#output.takeEvents();
  }

  /** The last event, with all of the response. */
  close(): string {
    const output = this.#output.items;
    const thoughts = output.flatMap((item) => item.type === "reasoning" ? item.content : []);
    this.response = finishedResponse(this.response, {
      output,
      cut: this.#cut,
      usage: this.#generation.usage,
      reasoningTokens: thoughts.reduce((sum, { text }) => sum + countTokens(this.#engine, text), 0),
    });
    this.#done(this.response);
    const type = `response.${this.response.status}`;
    return this.#output.event(type, { response: this.response });
  }

  /** The last event of a response that broke off. */
  fail({ code, message }: ApiError): string {
    const error = { code: code ?? "server_error", message };
    this.response = { ...this.response, status: "failed", error, output: this.#output.items };
    return this.#output.event("response.failed", { response: this.response });
  }

  #eventsOf({ text, finishReason }: GenerateChunk): TurnEvent[] {
    if (this.#parser === null) return text === "" ? [] : [{ type: "text", text }];
    const events = this.#parser.push(text);
    return finishReason === null ? events : [...events, ...this.#parser.finish()];
  }
}
