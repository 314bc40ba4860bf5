/**
 * Anthropic's error bodies: `{"type": "error", "error": {"type", "message"}, "request_id"}`.
 *
 * @module
 */

import type { ApiError } from "../errors.ts";

const TYPES: Readonly<Record<number, string>> = {
  400: "invalid_request_error",
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  415: "invalid_request_error",
  429: "rate_limit_error",
  503: "overloaded_error",
  504: "timeout_error",
};

/** The body for an error, whatever dialect it was thrown in. */
export function anthropicError({ status, message }: ApiError, requestId: string) {
  const type = TYPES[status] ?? (status < 500 ? "invalid_request_error" : "api_error");
  return { type: "error", error: { type, message }, request_id: requestId };
}

/** Whether a path speaks this dialect. */
export function speaksAnthropic(path: string): boolean {
  return path === "/v1/messages" || path.startsWith("/v1/messages/");
}
