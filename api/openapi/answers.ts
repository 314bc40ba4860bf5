/**
 * What the API answers, as schemas for its description. Requests are checked against schemas; answers are not.
 *
 * @module
 */

import { z } from "zod";

const count = z.int().min(0);
const id = z.string();
const time = z.int().describe("Unix seconds");

/** OpenAI's error body. */
export const errorAnswer = z.object({
  error: z.object({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable().describe("the field at fault"),
    code: z.string().nullable().describe("stable and machine-readable"),
  }),
});

/** Anthropic's error body. */
export const messageError = z.object({
  type: z.literal("error"),
  error: z.object({ type: z.string(), message: z.string() }),
  request_id: z.string(),
});

/** A served model. */
export const modelAnswer = z.looseObject({
  id,
  object: z.literal("model"),
  created: time,
  owned_by: z.string(),
  max_model_len: count,
});

/** All of them. */
export const modelsAnswer = z.object({ object: z.literal("list"), data: z.array(modelAnswer) });

const usage = z.object({
  prompt_tokens: count,
  completion_tokens: count,
  total_tokens: count,
  prompt_tokens_details: z.object({ cached_tokens: count }),
  completion_tokens_details: z.object({ reasoning_tokens: count }).optional(),
});

const chatLogprob = z.object({
  token: z.string(),
  logprob: z.number(),
  bytes: z.array(z.int().min(0).max(255)),
  top_logprobs: z.array(z.object({ token: z.string(), logprob: z.number(), bytes: z.array(z.int()) })),
});

const chatLogprobs = z.object({ content: z.array(chatLogprob), refusal: z.null() }).nullable();
const stopReason = z.union([z.string(), z.int(), z.null()]).describe(
  "the stop text or token id, if one ended it",
);
const finishReason = z.enum(["stop", "length", "tool_calls"]);
const envelope = { id, created: time, model: z.string() };

const toolCall = z.object({
  id,
  type: z.literal("function"),
  function: z.object({ name: z.string(), arguments: z.string().describe("JSON, as the model wrote it") }),
});

/** With `return_token_ids`. */
const tokenIds = z.array(count).optional();

/** With `prompt_logprobs`. */
const promptLogprobs = z.array(
  z.record(
    z.string(),
    z.object({
      logprob: z.number(),
      rank: z.int().min(1).nullable().describe("null beyond the 20th"),
      decoded_token: z.string(),
    }),
  ).nullable(),
).optional().describe("by token id; null for the first token");

/** The answer of a chat. */
export const chatAnswer = z.object({
  ...envelope,
  prompt_token_ids: tokenIds,
  prompt_logprobs: promptLogprobs,
  object: z.literal("chat.completion"),
  choices: z.array(z.object({
    index: count,
    message: z.object({
      role: z.literal("assistant"),
      content: z.string().nullable(),
      refusal: z.null(),
      reasoning_content: z.string().optional(),
      tool_calls: z.array(toolCall).optional(),
    }),
    logprobs: chatLogprobs,
    finish_reason: finishReason,
    stop_reason: stopReason,
    token_ids: tokenIds,
  })),
  usage,
});

/** An event of a chat's stream. */
export const chatChunk = z.object({
  ...envelope,
  prompt_token_ids: tokenIds,
  prompt_logprobs: promptLogprobs,
  object: z.literal("chat.completion.chunk"),
  choices: z.array(z.object({
    index: count,
    delta: z.looseObject({
      role: z.string().optional(),
      content: z.string().optional(),
      reasoning_content: z.string().optional(),
      tool_calls: z.array(z.looseObject({ index: count })).optional(),
    }),
    logprobs: chatLogprobs,
    finish_reason: finishReason.nullable(),
    stop_reason: stopReason.optional(),
    token_ids: tokenIds,
  })),
  usage: usage.nullish(),
});

const completionLogprobs = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number().nullable()),
  top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
  text_offset: z.array(count),
}).nullable();

/** The answer of a completion, and an event of its stream. */
export const completionAnswer = z.object({
  ...envelope,
  object: z.literal("text_completion"),
  choices: z.array(z.object({
    index: count,
    text: z.string(),
    logprobs: completionLogprobs,
    finish_reason: z.enum(["stop", "length"]).nullable(),
    stop_reason: stopReason.optional(),
    token_ids: tokenIds,
    prompt_token_ids: tokenIds,
    prompt_logprobs: promptLogprobs,
  })),
  usage: usage.nullish(),
});

const outputItem = z.discriminatedUnion("type", [
  z.looseObject({
    id,
    type: z.literal("message"),
    role: z.literal("assistant"),
    status: z.string(),
    content: z.array(z.looseObject({ type: z.literal("output_text"), text: z.string() })),
  }),
  z.looseObject({
    id,
    type: z.literal("reasoning"),
    status: z.string(),
    content: z.array(z.object({ type: z.literal("reasoning_text"), text: z.string() })),
  }),
  z.looseObject({
    id,
    type: z.literal("function_call"),
    status: z.string(),
    call_id: id,
    name: z.string(),
    arguments: z.string(),
  }),
]);

/** A response. */
export const responseAnswer = z.looseObject({
  id,
  object: z.literal("response"),
  created_at: time,
  status: z.enum(["in_progress", "completed", "incomplete", "failed"]),
  model: z.string(),
  output: z.array(outputItem),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  incomplete_details: z.object({ reason: z.string() }).nullable(),
  usage: z.looseObject({ input_tokens: count, output_tokens: count, total_tokens: count }).nullable(),
});

/** That a response was deleted. */
export const deletedAnswer = z.object({ id, object: z.literal("response"), deleted: z.literal(true) });

/** A message. */
export const messageAnswer = z.object({
  id,
  type: z.literal("message"),
  role: z.literal("assistant"),
  model: z.string(),
  content: z.array(z.discriminatedUnion("type", [
    z.object({ type: z.literal("text"), text: z.string() }),
    z.object({ type: z.literal("thinking"), thinking: z.string(), signature: z.string() }),
    z.object({ type: z.literal("tool_use"), id, name: z.string(), input: z.record(z.string(), z.unknown()) }),
  ])),
  stop_reason: z.enum(["end_turn", "max_tokens", "stop_sequence", "tool_use"]).nullable(),
  stop_sequence: z.string().nullable(),
  usage: z.looseObject({ input_tokens: count, output_tokens: count, cache_read_input_tokens: count }),
});

/** An event that says in `type` what it is. */
export const typedEvent = z.looseObject({ type: z.string() });

/** How many tokens a message would have. */
export const countAnswer = z.object({ input_tokens: count });

/** Tokens of a text. */
export const tokenizeAnswer = z.object({
  count,
  max_model_len: count,
  tokens: z.array(count),
  token_strs: z.array(z.string()).nullable(),
});

/** The text of tokens. */
export const detokenizeAnswer = z.object({ prompt: z.string() });

/** What runs here. */
export const versionAnswer = z.object({ version: z.string(), backend: z.string() });

/** Whether the server is alive, and how busy. */
export const healthAnswer = z.looseObject({ status: z.enum(["ok", "stalled", "failed", "loading"]) });

/** Whether to send requests here, and why not. */
export const readyAnswer = z.looseObject({ ready: z.boolean(), reasons: z.array(z.string()) });
