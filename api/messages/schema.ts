/**
 * The bodies of `POST /v1/messages` and `POST /v1/messages/count_tokens`.
 *
 * @module
 */

import { z } from "zod";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { checkAliases, penaltyAliases } from "../schemas/aliases.ts";
import { flag, list, neutral } from "../schemas/fields.ts";
import { tokenRules } from "../schemas/rules.ts";
import { samplerFields } from "../schemas/samplers.ts";
import { samplingFields, tokenCount } from "../schemas/sampling.ts";
import { functionName, MAX_TOOLS } from "../schemas/tools.ts";

const textBlock = z.looseObject({ type: z.literal("text"), text: z.string("a text") });
const textWanted = '"text": other kinds of content are not supported';
const blocksWanted = 'a text or an array of blocks such as {"type": "text", "text": "…"}';

/** Text, or blocks of it. */
const texts = z.union([
  z.string(),
  list(z.discriminatedUnion("type", [textBlock], { error: () => textWanted }), {
    max: 4096,
    wanted: blocksWanted,
  }),
], blocksWanted);

const block = z.discriminatedUnion("type", [
  textBlock,
  z.looseObject({
    type: z.literal("tool_use"),
    id: z.string("the id of a call"),
    name: functionName,
    input: z.record(z.string(), z.unknown(), "an object"),
  }),
  z.looseObject({
    type: z.literal("tool_result"),
    tool_use_id: z.string("the id of a call"),
    content: texts.nullish(),
    is_error: flag(),
  }),
  z.looseObject({ type: z.literal("thinking"), thinking: z.string("a text") }),
  z.looseObject({ type: z.literal("redacted_thinking") }),
], {
  error: ({ code }) =>
    code === "invalid_union"
      ? '"text", "tool_use", "tool_result" or "thinking": other kinds of content are not supported'
      : blocksWanted,
});

/** A block of a message's content. */
export type Block = z.output<typeof block>;

const message = z.looseObject({
  role: z.enum(["user", "assistant", "system"], '"user" or "assistant"'),
  content: z.union([z.string(), list(block, { max: 4096, wanted: blocksWanted })], blocksWanted),
}, 'a message such as {"role": "user", "content": "…"}');

/** A checked message. */
export type Message = z.output<typeof message>;

const tool = z.looseObject({
  type: z.literal("custom", '"custom" or absent: tools of other types are not supported').nullish(),
  name: functionName,
  description: z.string("a text").nullish(),
  input_schema: z.record(z.string(), z.unknown(), "a JSON schema (an object)"),
  strict: flag(),
}, 'a tool such as {"name": "…", "input_schema": {…}}');

const choiceWanted = '{"type": "auto"}, {"type": "any"}, {"type": "none"} or {"type": "tool", "name": "…"}';

const conversationFields = {
  model: z.string("the name of the served model").nullish(),
  messages: list(message, { min: 1, max: 65536, wanted: "an array of messages, at least one" }),
  system: texts.nullish(),
  tools: list(tool, { max: MAX_TOOLS, wanted: `an array of at most ${MAX_TOOLS} tools` }).nullish(),
  tool_choice: z.discriminatedUnion("type", [
    z.looseObject({ type: z.literal("auto"), disable_parallel_tool_use: flag() }),
    z.looseObject({ type: z.literal("any"), disable_parallel_tool_use: flag() }),
    z.looseObject({ type: z.literal("none") }),
    z.looseObject({ type: z.literal("tool"), name: functionName, disable_parallel_tool_use: flag() }),
  ], { error: () => choiceWanted }).nullish(),
  thinking: z.looseObject({
    type: z.enum(["enabled", "disabled", "adaptive"], '"enabled", "disabled" or "adaptive"'),
  }, 'an object such as {"type": "enabled"}').nullish(),
};

/** The body of `POST /v1/messages/count_tokens`. */
export const countBody = z.object(conversationFields, "a JSON object");

/** A checked body of `POST /v1/messages/count_tokens`. */
export type CountBody = z.output<typeof countBody>;

const stopWanted = "an array of at most 16 texts, none of them empty";

/** Fields of completions, which Anthropic's API does not have; some of them it has otherwise. */
const { temperature, top_p, seed, min_p, stop_token_ids, ignore_eos, priority } = samplingFields;
const { presence_penalty, frequency_penalty, repetition_penalty, logit_bias } = samplingFields;

/** The body of `POST /v1/messages`. */
export const messageBody = z.object({
  ...conversationFields,
  max_tokens: z.int("an integer, 1 or more").min(1, "an integer, 1 or more").max(
    2 ** 31 - 1,
    "less than 2^31",
  ),
  stop_sequences: list(z.string(stopWanted).min(1, stopWanted), { max: 16, wanted: stopWanted }).nullish(),
  stream: flag(),
  temperature,
  top_p,
  top_k: tokenCount(0),
  seed,
  min_p,
  stop_token_ids,
  ignore_eos,
  priority,
  presence_penalty,
  frequency_penalty,
  repetition_penalty,
  logit_bias,
  ...samplerFields,
  ...penaltyAliases,
  ...tokenRules,
  use_beam_search: neutral(false),
  metadata: z.looseObject({ user_id: z.string("a text").nullish() }, "an object").nullish(),
}, "a JSON object");

/** A checked body of `POST /v1/messages`. */
export type MessageBody = z.output<typeof messageBody>;

/** Refuses fields that contradict each other. */
export function checkMessage(body: MessageBody): void {
  checkMessages(body);
  checkAliases(body);
}

/** Refuses a choice of a tool that is not there. */
export function checkMessages({ tools, tool_choice: choice }: CountBody): void {
  if (choice?.type !== "any" && choice?.type !== "tool") return;
  if (choice.type === "any" ? tools?.length : tools?.some(({ name }) => name === choice.name)) return;
  const found = choice.type === "any" ? "any" : `"${choice.name}"`;
  throw new InvalidRequestError(
    `tool_choice asks for a call of ${found}; it must be one of tools, which has ${tools?.length ?? 0}.`,
    "tool_choice",
    "invalid_value",
  );
}
