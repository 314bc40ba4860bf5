/**
 * Fields of other servers that would change the answer and that this one does not have: accepted only with the
 * value that changes nothing. Fields that are in no schema are ignored.
 *
 * @module
 */

import { neutral } from "./fields.ts";

/** Of vLLM and llama.cpp's server, for both kinds of completion. */
export const unsupportedFields = {
  logits_processors: neutral([]),
};

/** Of chats alone. */
export const unsupportedChatFields = {
  chat_template: neutral(),
  documents: neutral([]),
  echo: neutral(false),
  modalities: neutral(["text"]),
  audio: neutral(),
  web_search_options: neutral(),
};
