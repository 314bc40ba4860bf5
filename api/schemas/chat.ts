/**
 * The body of `POST /v1/chat/completions`.
 *
 * @module
 */

import { z } from "zod";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { flag, integer, list, neutral } from "./fields.ts";
import { checkStreamOptions, samplingFields, tokenCount } from "./sampling.ts";

const ROLES = ["system", "developer", "user", "assistant", "tool"] as const;
const contentWanted = 'a text or an array of parts such as {"type": "text", "text": "…"}';

const part = z.looseObject({
  type: z.literal("text", '"text": other kinds of content are not supported'),
  text: z.string("a text"),
}, 'a part such as {"type": "text", "text": "…"}');

const message = z.looseObject({
  role: z.enum(ROLES, 'one of "system", "developer", "user", "assistant" and "tool"'),
  content: z.union([z.string(), list(part, { min: 1, max: 4096, wanted: contentWanted })], contentWanted)
    .nullish(),
}, 'a message such as {"role": "user", "content": "…"}').superRefine(({ role, content }, context) => {
  // Only an assistant may be silent: its turn can be a tool call.
  if (role !== "assistant" && (content === null || content === undefined)) {
    context.addIssue({ code: "custom", path: ["content"], message: contentWanted });
  }
});

/** A checked message, as the client wrote it. */
export type Message = z.output<typeof message>;

/** The body of `POST /v1/chat/completions`. */
export const chatBody = z.object({
  ...samplingFields,
  messages: list(message, { min: 1, max: 65536, wanted: "an array of messages, at least one" }),
  max_tokens: tokenCount(1),
  max_completion_tokens: tokenCount(1),
  logprobs: flag(),
  top_logprobs: integer(0, 20, "an integer from 0 to 20"),
  tools: neutral([]),
  tool_choice: neutral("none", "auto"),
  functions: neutral([]),
  function_call: neutral("none", "auto"),
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
  checkStreamOptions(body);
}
