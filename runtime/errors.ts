/**
 * Errors of the runtime. Each message names the thing, the value found and the value wanted; `code` is
 * stable and machine-readable, `param` names the request field or flag at fault where there is one.
 *
 * @module
 */

/** The caller asked for something that cannot be had: a bad request, flag or option. HTTP 400. */
export class InvalidRequestError extends Error {
  /** "InvalidRequestError" */
  override readonly name = "InvalidRequestError";
  /** The field or flag at fault. */
  readonly param: string | null;
  /** Stable, for machines. */
  readonly code: string | null;

  /** `message` is for people; `param` and `code` are for programs. */
  constructor(
    message: string,
    param: string | null = null,
    code: string | null = null,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.param = param;
    this.code = code;
  }
}

/** A model's files are missing, malformed or of a kind that is not supported. */
export class ModelError extends Error {
  /** "ModelError" */
  override readonly name = "ModelError";
}

/** Why the engine could not take or finish a request. */
export type EngineErrorCode = "closed" | "failed" | "overloaded" | "draining" | "timeout" | "slow_reader";

/** The engine cannot take or finish a request: it is closed, has failed, or its queue is full. HTTP 503. */
export class EngineError extends Error {
  /** "EngineError" */
  override readonly name = "EngineError";
  /** Closed for good, failed, too much to do at the moment, ending, too late, or not read. */
  readonly code: EngineErrorCode;
  /** For "overloaded": seconds after which there is room again, by the pace of late. */
  readonly retryAfter: number | null;

  /** `message` is for people; `code` is for programs. */
  constructor(message: string, code: EngineErrorCode, options: ErrorOptions & { retryAfter?: number } = {}) {
    super(message, options);
    this.code = code;
    this.retryAfter = options.retryAfter ?? null;
  }
}
