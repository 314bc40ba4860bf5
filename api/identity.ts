/**
 * What every chunk of one response repeats.
 *
 * @module
 */

/** The constant fields of a response and of each of its chunks. */
export interface Identity {
  id: string;
  object: string;
  /** Unix seconds. */
  created: number;
  model: string;
}

/** A fresh identity; `prefix` is OpenAI's for the kind of response, such as `chatcmpl`. */
export function newIdentity(prefix: string, object: string, model: string): Identity {
  return {
    id: `${prefix}-${crypto.randomUUID().replaceAll("-", "")}`,
    object,
    created: Math.floor(Date.now() / 1000),
    model,
  };
}
