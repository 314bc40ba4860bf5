/**
 * OpenAI's error bodies: `{"error": {"message", "type", "param", "code"}}`, and what turns any error into one.
 *
 * @module
 */

import { EngineError, InvalidRequestError } from "../runtime/errors.ts";

/** The body of every response that is not a success. */
export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

/** An error with its HTTP status; `code` is stable and machine-readable, `param` names the field at fault. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly param: string | null;
  readonly code: string | null;
  readonly headers: Record<string, string>;

  constructor(
    readonly status: number,
    message: string,
    { param = null, code = null, headers = {}, cause }: {
      param?: string | null;
      code?: string | null;
      headers?: Record<string, string>;
      cause?: unknown;
    } = {},
  ) {
    super(message, { cause });
    this.param = param;
    this.code = code;
    this.headers = headers;
  }

  /** OpenAI's family of the error. */
  get type(): string {
    if (this.status === 401) return "authentication_error";
    if (this.status === 429) return "rate_limit_error";
    return this.status < 500 ? "invalid_request_error" : "server_error";
  }

  get body(): ErrorBody {
    return { error: { message: this.message, type: this.type, param: this.param, code: this.code } };
  }

  /** The response that carries this error. */
  toResponse(): Response {
    return Response.json(this.body, { status: this.status, headers: this.headers });
  }
}

/** The error as the API reports it. An error of no known class becomes a 500 that keeps its secrets. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof InvalidRequestError) {
    const param = error.param === null ? null : wireName(error.param);
    return new ApiError(400, error.message, { param, code: error.code, cause: error });
  }
  if (error instanceof EngineError) {
    const status = error.code === "overloaded" ? 429 : error.code === "timeout" ? 504 : 503;
    const headers = status === 429 ? { "retry-after": String(error.retryAfter ?? 1) } : {};
    return new ApiError(status, error.message, { code: error.code, headers, cause: error });
  }
  return new ApiError(500, "The server failed; its log has the cause under this response's x-request-id.", {
    code: "internal_error",
    cause: error,
  });
}

/** The name that a client knows a request's field by: `sampling.topP` is `top_p`. */
export function wireName(param: string): string {
  return param.replace(/^sampling\./, "").replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
