/**
 * `POST /tokenize` and `POST /detokenize`.
 *
 * @module
 */

import { type Context, Hono } from "hono";
import { InvalidRequestError } from "../../runtime/errors.ts";
import type { Engine } from "../../runtime/types.ts";
import { readJson } from "../body.ts";
import type { ApiContext, ApiEnv } from "../context.ts";
import { prepareTurn } from "../conversation.ts";
import { tokenText } from "../logprobs.ts";
import { conversationOf, requireChatTemplate, requireModel } from "../requests.ts";
import { checkRendering } from "../schemas/chat.ts";
import { checkTokenize, detokenizeBody, type TokenizeBody, tokenizeBody } from "../schemas/tokenize.ts";
import { validate } from "../schemas/validate.ts";

/** Routes of the tokenizer. */
export function tokenizeRoutes(context: ApiContext): Hono<ApiEnv> {
  return new Hono<ApiEnv>()
    .post("/tokenize", (c) => tokenize(context, c))
    .post("/detokenize", (c) => detokenize(context, c));
}

async function tokenize(context: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const { engine, maxBodyBytes } = context;
  const body = validate(tokenizeBody, await readJson(c.req.raw, maxBodyBytes));
  checkTokenize(body);
  checkRendering(body);
  requireModel(engine.model, body.model);
  const tokens = idsOf(context, body);
  return c.json({
    count: tokens.length,
    max_model_len: engine.model.maxContext,
    tokens,
    token_strs: body.return_token_strs ? tokens.map((id) => tokenText(engine.tokenBytes(id))) : null,
  });
}

function idsOf({ engine, toolFormat }: ApiContext, body: TokenizeBody): readonly number[] {
  const { prompt, messages } = body;
  if (typeof prompt === "string") {
    return engine.encode(prompt, { addSpecialTokens: body.add_special_tokens ?? true });
  }
  requireChatTemplate(engine.model);
  const { request } = prepareTurn(engine, conversationOf({ ...body, messages: messages! }), toolFormat);
  return request.prompt;
}

async function detokenize({ engine, maxBodyBytes }: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const { model, tokens } = validate(detokenizeBody, await readJson(c.req.raw, maxBodyBytes));
  requireModel(engine.model, model);
  requireIds(engine, tokens);
  // As vLLM does, special tokens are part of the text.
  return c.json({ prompt: engine.decode(tokens, { skipSpecialTokens: false }) });
}

function requireIds(engine: Engine, tokens: readonly number[]): void {
  const at = tokens.findIndex((id) => id >= engine.model.vocabSize);
  if (at < 0) return;
  const most = engine.model.vocabSize - 1;
  throw new InvalidRequestError(
    `tokens[${at}] is ${tokens[at]}; it must be a token id of the model, 0 to ${most}.`,
    `tokens[${at}]`,
    "invalid_value",
  );
}
