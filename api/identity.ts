/**
 * What every chunk of one response repeats.
 *
 * @module
 */

import type { RequestRecord } from "./telemetry/record.ts";

/** The constant fields of a response and of each of its chunks. */
export interface Identity {
  id: string;
  object: string;
  /** Unix seconds. */
  created: number;
  model: string;
}

/** A fresh identity, noted in the request's record; `prefix` is OpenAI's for the kind of response, such as `chatcmpl`. */
export function newIdentity(
  prefix: string,
  object: string,
  model: string,
  record?: RequestRecord,
): Identity {
  const identity = {
    id: `${prefix}-${crypto.randomUUID().replaceAll("-", "")}`,
    object,
    created: Math.floor(Date.now() / 1000),
    model,
  };
  if (record !== undefined) record.responseId = identity.id;
  return identity;
}
