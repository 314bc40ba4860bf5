/**
 * Errors of the runtime. Each message names the thing, the value found and the value wanted; `code` is
 * stable and machine-readable, `param` names the request field or flag at fault where there is one.
 *
 * @module
 */

/** The caller asked for something that cannot be had: a bad request, flag or option. HTTP 400. */
export class InvalidRequestError extends Error {
  override readonly name = "InvalidRequestError";
  constructor(
    message: string,
    readonly param: string | null = null,
    readonly code: string | null = null,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** A model's files are missing, malformed or of a kind that is not supported. */
export class ModelError extends Error {
  override readonly name = "ModelError";
}

/** The engine cannot take or finish a request: it is closed, has failed, or its queue is full. HTTP 503. */
export class EngineError extends Error {
  override readonly name = "EngineError";
  constructor(message: string, readonly code: "closed" | "failed" | "overloaded", options?: ErrorOptions) {
    super(message, options);
  }
}
