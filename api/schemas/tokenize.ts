/**
 * The bodies of `POST /tokenize` and `POST /detokenize`, as vLLM has them.
 *
 * @module
 */

import { z } from "zod";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { messagesField, renderingFields } from "./chat.ts";
import { flag, list } from "./fields.ts";
import { toolsField } from "./tools.ts";

const model = z.string("the name of the served model").nullish();
const idsWanted = "an array of token ids (integers, 0 or more)";

/** The body of `POST /tokenize`: a text, or a conversation. */
export const tokenizeBody = z.object({
  model,
  prompt: z.string("a text").nullish(),
  messages: messagesField.nullish(),
  tools: toolsField,
  return_token_strs: flag(),
  ...renderingFields,
}, "a JSON object");

/** A checked body of `POST /tokenize`. */
export type TokenizeBody = z.output<typeof tokenizeBody>;

/** The body of `POST /detokenize`. */
export const detokenizeBody = z.object({
  model,
  tokens: list(z.int(idsWanted).min(0, idsWanted), { max: 1 << 20, wanted: idsWanted }),
}, "a JSON object");

/** Refuses a body with both a text and a conversation, or neither. */
export function checkTokenize({ prompt, messages }: TokenizeBody): void {
  if ((typeof prompt === "string") !== Array.isArray(messages)) return;
  throw new InvalidRequestError(
    `The request body has ${messages ? "both prompt and messages" : "neither prompt nor messages"}; ` +
      "it must have one of them.",
    "prompt",
    "invalid_value",
  );
}
