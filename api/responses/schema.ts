/**
 * The body of `POST /v1/responses`.
 *
 * @module
 */

import { z } from "zod";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { flag, integer, list, neutral } from "../schemas/fields.ts";
import { checkAliases, penaltyAliases } from "../schemas/aliases.ts";
import { tokenRules } from "../schemas/rules.ts";
import { samplerFields } from "../schemas/samplers.ts";
import { samplingFields, tokenCount } from "../schemas/sampling.ts";
import { functionName, MAX_TOOLS, parametersField } from "../schemas/tools.ts";

const contentWanted = 'a text or an array of parts such as {"type": "input_text", "text": "…"}';
const partsWanted = '"input_text" or "output_text": other kinds of content are not supported';

const part = z.discriminatedUnion("type", [
  z.looseObject({ type: z.literal("input_text"), text: z.string("a text") }),
  z.looseObject({ type: z.literal("output_text"), text: z.string("a text") }),
  z.looseObject({ type: z.literal("text"), text: z.string("a text") }),
  z.looseObject({ type: z.literal("refusal"), refusal: z.string("a text") }),
], { error: ({ code }) => code === "invalid_union" ? partsWanted : contentWanted });

const content = z.union([z.string(), list(part, { max: 4096, wanted: contentWanted })], contentWanted);

const message = z.looseObject({
  type: z.literal("message").optional(),
  role: z.enum(["system", "developer", "user", "assistant"], '"system", "developer", "user" or "assistant"'),
  content,
});

const otherItem = z.discriminatedUnion("type", [
  z.looseObject({
    type: z.literal("function_call"),
    call_id: z.string("the id of a call"),
    name: functionName,
    arguments: z.string("arguments as a JSON text"),
  }),
  z.looseObject({
    type: z.literal("function_call_output"),
    call_id: z.string("the id of a call"),
    output: content,
  }),
  z.looseObject({
    type: z.literal("reasoning"),
    summary: z.array(z.looseObject({ text: z.string("a text") })).nullish(),
    content: z.array(z.looseObject({ text: z.string("a text") })).nullish(),
  }),
]);

const item = z.union(
  [message, otherItem],
  'a message, or an item of type "function_call", "function_call_output" or "reasoning"',
);

/** An item of the input. */
export type InputItem = z.output<typeof item>;

const functionTool = z.looseObject({
  type: z.literal("function", '"function": tools of other types are not supported'),
  name: functionName,
  description: z.string("a text").nullish(),
  parameters: parametersField,
  strict: flag(),
}, 'a tool such as {"type": "function", "name": "…"}');

const namedTool = z.object({ type: z.literal("function"), name: functionName });

const formatWanted = '{"type": "text"}, {"type": "json_object"} or {"type": "json_schema", "schema": {…}}';

const textFormat = z.discriminatedUnion("type", [
  z.looseObject({ type: z.literal("text") }),
  z.looseObject({ type: z.literal("json_object") }),
  z.looseObject({
    type: z.literal("json_schema"),
    name: z.string("a text").nullish(),
    schema: z.record(z.string(), z.unknown(), "a JSON schema (an object)"),
    strict: flag(),
  }),
], { error: () => formatWanted }).nullish();

const {
  n: _n,
  stream_options: _options,
  include_stop_str_in_output: _stop,
  response_format: _format,
  ...fields
} = samplingFields;

/** The body of `POST /v1/responses`. */
export const responseBody = z.object({
  ...fields,
  ...samplerFields,
  ...penaltyAliases,
  ...tokenRules,
  input: z.union(
    [z.string(), list(item, { min: 1, max: 65536, wanted: "a text or an array of items" })],
    "a text or an array of items, at least one",
  ),
  instructions: z.string("a text").nullish(),
  max_output_tokens: tokenCount(1),
  tools: list(functionTool, { max: MAX_TOOLS, wanted: `an array of at most ${MAX_TOOLS} tools` }).nullish(),
  tool_choice: z.union([
    z.enum(["none", "auto", "required"]),
    namedTool,
    z.object({
      type: z.literal("allowed_tools"),
      mode: z.enum(["auto", "required"]),
      tools: z.array(namedTool).min(1).max(MAX_TOOLS),
    }),
  ], '"none", "auto", "required", {"type": "function", "name": "…"} or {"type": "allowed_tools", …}')
    .nullish(),
  parallel_tool_calls: flag(),
  text: z.looseObject({ format: textFormat }, "an object").nullish(),
  reasoning: z.looseObject({ effort: z.string("a text").nullish() }, "an object").nullish(),
  include: z.array(z.string("a text"), "an array of texts").nullish(),
  top_logprobs: integer(0, 20, "an integer from 0 to 20"),
  store: flag(),
  previous_response_id: z.string("the id of a stored response").nullish(),
  chat_template_kwargs: z.record(z.string(), z.unknown(), "an object").nullish(),
  use_beam_search: neutral(false),
  truncation: neutral("disabled"),
  background: neutral(false),
  conversation: neutral(),
  prompt: neutral(),
}, "a JSON object");

/** A checked body of `POST /v1/responses`. */
export type ResponseBody = z.output<typeof responseBody>;

/** Whether log probabilities are to be included. */
export function wantsLogprobs(body: ResponseBody): boolean {
  return body.include?.includes("message.output_text.logprobs") ?? false;
}

/** Refuses fields that contradict each other. */
export function checkResponse(body: ResponseBody): void {
  checkAliases(body);
  if (!body.top_logprobs || wantsLogprobs(body)) return;
  throw new InvalidRequestError(
    `top_logprobs is ${body.top_logprobs}; it must be absent unless include has "message.output_text.logprobs".`,
    "top_logprobs",
    "invalid_value",
  );
}
