/**
 * `POST /v1/chat/completions`.
 *
 * @module
 */

import { type Context, Hono } from "hono";
import type { Engine, Generation } from "../../runtime/types.ts";
import { type Choice, collectAll, startAll } from "../batch.ts";
import { readJson } from "../body.ts";
import { ChatChunkWriter, type ChunkWriter } from "../chunks.ts";
import type { ApiContext, ApiEnv } from "../context.ts";
import { type PreparedTurn, prepareTurn } from "../conversation.ts";
import { type Identity, newIdentity } from "../identity.ts";
import { chatLogprobs, promptLogprobs } from "../logprobs.ts";
import {
  chatRequest,
  conversationOf,
  extraFields,
  namesIds,
  requireChatTemplate,
  requireModel,
  withChatProbs,
} from "../requests.ts";
import { type ChatBody, chatBody, checkChat } from "../schemas/chat.ts";
import { validate } from "../schemas/validate.ts";
import { withStopText } from "../stop_text.ts";
import { streamResponse } from "../stream.ts";
import { readTurn, type ToolCall, type Turn } from "../tools/turn.ts";
import { TurnChunkWriter, turnFinishReason } from "../turn_chunks.ts";
import { countTokens, usageBody } from "../usage.ts";

/** Routes of conversations. */
export function chatRoutes(context: ApiContext): Hono<ApiEnv> {
  return new Hono<ApiEnv>().post("/v1/chat/completions", (c) => chat(context, c));
}

async function chat(context: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const { engine, log, maxBodyBytes, toolFormat } = context;
  const asked = validate(chatBody, await readJson(c.req.raw, maxBodyBytes));
  checkChat(asked);
  const body = withChatProbs(asked);
  requireModel(engine.model, body.model);
  requireChatTemplate(engine.model);
  const turn = prepareTurn(engine, conversationOf(body), toolFormat);
  const started = await startAll(engine, [chatRequest(body, turn, c.req.raw.signal)]);
  const generations = body.include_stop_str_in_output ? started.map(withStopText) : started;
  if (!body.stream) {
    const identity = newIdentity("chatcmpl", "chat.completion", engine.model.id, c.get("record"));
    return Response.json(await chatCompletion(engine, identity, body, turn, generations));
  }

  const identity = newIdentity("chatcmpl", "chat.completion.chunk", engine.model.id, c.get("record"));
  const includeUsage = body.stream_options?.include_usage ?? false;
  const { newParser } = turn;
  const reasoning = body.include_reasoning ?? true;
  return streamResponse<ChunkWriter>(c, log, {
    identity,
    generations,
    n: body.n ?? 1,
    includeUsage,
    ...extraFields(body, "event"),
    writer: (index) =>
      newParser === null
        ? new ChatChunkWriter(identity, index, includeUsage, namesIds(body))
        : new TurnChunkWriter(identity, index, includeUsage, {
          parser: newParser(),
          reasoning,
          namesIds: namesIds(body),
        }),
  });
}

async function chatCompletion(
  engine: Engine,
  identity: Identity,
  body: ChatBody,
  { newParser }: PreparedTurn,
  generations: readonly Generation[],
) {
  const choices = await collectAll(generations, body.n ?? 1);
  const turns = choices.map(({ text }) => readTurn(text, newParser?.() ?? null));
  const usage = usageBody(generations.map(({ usage }) => usage));
  const thought = turns.reduce((sum, { reasoning }) => sum + countTokens(engine, reasoning), 0);
  return {
    ...identity,
    ...(body.return_token_ids && { prompt_token_ids: generations[0]!.promptTokenIds }),
    ...(typeof body.prompt_logprobs === "number" && {
      prompt_logprobs: promptLogprobs(await generations[0]!.promptLogprobs, body.prompt_logprobs),
    }),
    choices: choices.map((choice, index) => choiceBody(index, choice, turns[index]!, body)),
    usage: newParser === null
      ? usage
      : { ...usage, completion_tokens_details: { reasoning_tokens: thought } },
  };
}

function choiceBody(index: number, choice: Choice, turn: Turn, body: ChatBody) {
  const called = turn.calls.length > 0;
  return {
    index,
    message: {
      role: "assistant",
      content: called && turn.text === "" ? null : turn.text,
      refusal: null,
      ...(turn.reasoning !== "" && body.include_reasoning !== false && { reasoning_content: turn.reasoning }),
      ...(called && { tool_calls: turn.calls.map(callBody) }),
    },
    logprobs: body.logprobs
      ? { content: chatLogprobs(choice.logprobs, namesIds(body)), refusal: null }
      : null,
    finish_reason: turnFinishReason(choice.finishReason, called),
    stop_reason: called ? null : choice.stopReason,
    ...(body.return_token_ids && { token_ids: choice.tokenIds }),
  };
}

function callBody({ id, name, arguments: json }: ToolCall) {
  return { id, type: "function", function: { name, arguments: json } };
}
