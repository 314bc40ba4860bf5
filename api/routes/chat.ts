/**
 * `POST /v1/chat/completions`.
 *
 * @module
 */

import { type Context, Hono } from "hono";
import type { Generation } from "../../runtime/types.ts";
import { type Choice, collectAll, startAll } from "../batch.ts";
import { readJson } from "../body.ts";
import { ChatChunkWriter } from "../chunks.ts";
import type { ApiContext, ApiEnv } from "../context.ts";
import { type Identity, newIdentity } from "../identity.ts";
import { chatLogprobs } from "../logprobs.ts";
import { chatRequest, requireChatTemplate, requireModel } from "../requests.ts";
import { type ChatBody, chatBody, checkChat } from "../schemas/chat.ts";
import { validate } from "../schemas/validate.ts";
import { streamResponse } from "../stream.ts";
import { usageBody } from "../usage.ts";

/** Routes of conversations. */
export function chatRoutes(context: ApiContext): Hono<ApiEnv> {
  return new Hono<ApiEnv>().post("/v1/chat/completions", (c) => chat(context, c));
}

async function chat({ engine, log, maxBodyBytes }: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const body = validate(chatBody, await readJson(c.req.raw, maxBodyBytes));
  checkChat(body);
  requireModel(engine.model, body.model);
  requireChatTemplate(engine.model);
  const generations = startAll(engine, [chatRequest(body, c.req.raw.signal)]);
  if (!body.stream) {
    return Response.json(
      await chatCompletion(newIdentity("chatcmpl", "chat.completion", engine.model.id), body, generations),
    );
  }

  const identity = newIdentity("chatcmpl", "chat.completion.chunk", engine.model.id);
  const includeUsage = body.stream_options?.include_usage ?? false;
  return streamResponse(c, log, {
    identity,
    generations,
    n: body.n ?? 1,
    includeUsage,
    writer: (index) => new ChatChunkWriter(identity, index, includeUsage),
  });
}

async function chatCompletion(identity: Identity, body: ChatBody, generations: readonly Generation[]) {
  const choices = await collectAll(generations, body.n ?? 1);
  return {
    ...identity,
    choices: choices.map((choice, index) => choiceBody(index, choice, body.logprobs ?? false)),
    usage: usageBody(generations.map(({ usage }) => usage)),
  };
}

function choiceBody(index: number, choice: Choice, withLogprobs: boolean) {
  return {
    index,
    message: { role: "assistant", content: choice.text, refusal: null },
    logprobs: withLogprobs ? { content: chatLogprobs(choice.logprobs), refusal: null } : null,
    finish_reason: choice.finishReason,
    stop_reason: choice.stopReason,
  };
}
