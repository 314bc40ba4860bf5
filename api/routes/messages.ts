/**
 * `POST /v1/messages` and `POST /v1/messages/count_tokens`, as Anthropic has them.
 *
 * @module
 */

import { type Context, Hono } from "hono";
import type { Generation } from "../../runtime/types.ts";
import { collectAll, startAll } from "../batch.ts";
import { readJson } from "../body.ts";
import type { ApiContext, ApiEnv } from "../context.ts";
import { prepareTurn } from "../conversation.ts";
import { newIdentity } from "../identity.ts";
import { anthropicError } from "../messages/errors.ts";
import { messageConversation, messageRequest } from "../messages/input.ts";
import { MessageWriter } from "../messages/output.ts";
import { checkMessage, checkMessages, countBody, messageBody } from "../messages/schema.ts";
import { requireChatTemplate, requireModel } from "../requests.ts";
import { validate } from "../schemas/validate.ts";
import { namedEvent } from "../sse.ts";
import { streamResponse } from "../stream.ts";

/** Routes of messages. */
export function messageRoutes(context: ApiContext): Hono<ApiEnv> {
  return new Hono<ApiEnv>()
    .post("/v1/messages", (c) => createMessage(context, c))
    .post("/v1/messages/count_tokens", (c) => countTokens(context, c));
}

async function createMessage(context: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const { engine, log, maxBodyBytes, toolFormat } = context;
  const body = validate(messageBody, await readJson(c.req.raw, maxBodyBytes));
  checkMessage(body);
  requireModel(engine.model, body.model);
  requireChatTemplate(engine.model);
  const turn = prepareTurn(engine, messageConversation(body), toolFormat);
  const [generation] = await startAll(engine, [messageRequest(body, turn, c.req.raw.signal)]) as [Generation];
  const writer = new MessageWriter(engine.model.id, generation.usage, turn.newParser?.() ?? null);
  const record = c.get("record");
  if (record !== undefined) record.responseId = writer.id;
  if (!body.stream) {
    const [choice] = await collectAll([generation], 1);
    const { text, finishReason, stopReason } = choice!;
    writer.write({ index: 0, text, tokenIds: [], finishReason, ...(stopReason !== null && { stopReason }) });
    return Response.json(writer.message());
  }
  return streamResponse(c, log, {
    identity: newIdentity("msg", "message", engine.model.id),
    generations: [generation],
    n: 1,
    includeUsage: false,
    writer: () => writer,
    opening: () => Promise.resolve(writer.open()),
    closing: () => writer.close(),
    failure: (error) => namedEvent(anthropicError(error, c.get("requestId"))),
  });
}

async function countTokens(context: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const { engine, maxBodyBytes, toolFormat } = context;
  const body = validate(countBody, await readJson(c.req.raw, maxBodyBytes));
  checkMessages(body);
  requireModel(engine.model, body.model);
  requireChatTemplate(engine.model);
  const { request } = prepareTurn(engine, messageConversation(body), toolFormat);
  return c.json({ input_tokens: request.prompt.length });
}
