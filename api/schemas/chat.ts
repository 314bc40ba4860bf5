/**
 * The body of `POST /v1/chat/completions`.
 *
 * @module
 */

import { z } from "zod";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { aliasFields, checkAliases } from "./aliases.ts";
import { beamFields, checkBeamSearch } from "./beams.ts";
import { unsupportedChatFields, unsupportedFields } from "./extras.ts";
import { flag, integer, list, refused } from "./fields.ts";
import { ruleFields } from "./rules.ts";
import { samplerFields } from "./samplers.ts";
import { checkStreamOptions, samplingFields, tokenCount } from "./sampling.ts";
import { toolCall, toolChoiceField, toolsField, toolsOf } from "./tools.ts";

const ROLES = ["system", "developer", "user", "assistant", "tool"] as const;
const contentWanted = 'a text or an array of parts such as {"type": "text", "text": "…"}';

const part = z.discriminatedUnion("type", [
  z.looseObject({ type: z.literal("text"), text: z.string("a text") }),
  z.looseObject({ type: z.literal("refusal"), refusal: z.string("a text") }),
], {
  error: ({ code }) =>
    code === "invalid_union"
      ? '"text": other kinds of content are not supported'
      : 'a part such as {"type": "text", "text": "…"}',
});

const message = z.looseObject({
  role: z.enum(ROLES, 'one of "system", "developer", "user", "assistant" and "tool"'),
  content: z.union([z.string(), list(part, { min: 1, max: 4096, wanted: contentWanted })], contentWanted)
    .nullish(),
  name: z.string("a text").nullish(),
  tool_calls: list(toolCall, { max: 1024, wanted: "an array of calls" }).nullish(),
  tool_call_id: z.string("the id of a call").nullish(),
  reasoning_content: z.string("a text").nullish(),
}, 'a message such as {"role": "user", "content": "…"}').superRefine(({ role, content }, context) => {
  // Only an assistant may be silent: its turn can be a tool call.
  if (role !== "assistant" && (content === null || content === undefined)) {
    context.addIssue({ code: "custom", path: ["content"], message: contentWanted });
  }
});

/** A checked message, as the client wrote it. */
export type Message = z.output<typeof message>;

/** The messages of a conversation. */
export const messagesField = list(message, {
  min: 1,
  max: 65536,
  wanted: "an array of messages, at least one",
});

/** How a conversation is rendered; vLLM's names. */
export const renderingFields = {
  chat_template_kwargs: z.record(z.string(), z.unknown(), "an object").nullish(),
  add_generation_prompt: flag(),
  continue_final_message: flag(),
  add_special_tokens: flag(),
};

/** The body of `POST /v1/chat/completions`. */
export const chatBody = z.object({
  ...samplingFields,
  ...samplerFields,
  ...aliasFields(1),
  ...beamFields,
  ...ruleFields,
  messages: messagesField,
  max_tokens: tokenCount(1),
  max_completion_tokens: tokenCount(1),
  logprobs: flag(),
  top_logprobs: integer(0, 20, "an integer from 0 to 20"),
  tools: toolsField,
  tool_choice: toolChoiceField,
  parallel_tool_calls: flag(),
  functions: refused("it is deprecated: use tools", []),
  function_call: refused("it is deprecated: use tool_choice", "none", "auto"),
  reasoning_effort: z.string("a text").nullish(),
  include_reasoning: flag(),
  reasoning_format: z.enum(["auto", "deepseek", "none"], '"auto", "deepseek" or "none"').nullish(),
  ...renderingFields,
  return_token_ids: flag(),
  ...unsupportedFields,
  ...unsupportedChatFields,
}, "a JSON object");

/** A checked body of `POST /v1/chat/completions`. */
export type ChatBody = z.output<typeof chatBody>;

/** Refuses fields that contradict each other. */
export function checkChat(body: ChatBody): void {
  if (body.top_logprobs && !body.logprobs) {
    throw new InvalidRequestError(
      `top_logprobs is ${body.top_logprobs}; it must be absent unless logprobs is true.`,
      "top_logprobs",
      "invalid_value",
    );
  }
  toolsOf(body);
  checkRendering(body);
  checkAliases(body);
  checkBeamSearch(body);
  checkStreamOptions(body);
}

/** Refuses a conversation that shall both begin a turn and go on with one. */
export function checkRendering(
  body: {
    add_generation_prompt?: boolean | null | undefined;
    continue_final_message?: boolean | null | undefined;
  },
): void {
  if (!body.continue_final_message || !body.add_generation_prompt) return;
  throw new InvalidRequestError(
    "continue_final_message is true; add_generation_prompt must be absent or false then.",
    "continue_final_message",
    "invalid_value",
  );
}
