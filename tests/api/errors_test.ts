import { assertEquals, assertMatch } from "@std/assert";
import { ApiError, toApiError, wireName } from "../../api/errors.ts";
import { EngineError, InvalidRequestError, ModelError } from "../../runtime/errors.ts";

Deno.test("toApiError() makes a 400 of an InvalidRequestError, with its message, param and code", () => {
  const error = toApiError(new InvalidRequestError("too long", "maxTokens", "context_length_exceeded"));
  assertEquals(error.status, 400);
  assertEquals(error.body, {
    error: {
      message: "too long",
      type: "invalid_request_error",
      param: "max_tokens",
      code: "context_length_exceeded",
    },
  });
});

Deno.test("toApiError() makes a 429 with retry-after of a full queue", async () => {
  const response = toApiError(new EngineError("the queue is full", "overloaded")).toResponse();
  assertEquals([response.status, response.headers.get("retry-after")], [429, "1"]);
  assertEquals((await response.json()).error.type, "rate_limit_error");
});

for (const code of ["closed", "failed"] as const) {
  Deno.test(`toApiError() makes a 503 of an engine that is ${code}`, () => {
    const error = toApiError(new EngineError("gone", code));
    assertEquals([error.status, error.type, error.code], [503, "server_error", code]);
  });
}

Deno.test("toApiError() tells nothing of an error that no caller should see", () => {
  for (const cause of [new ModelError("/secret/path"), new TypeError("secret"), "secret", null]) {
    const error = toApiError(cause);
    assertEquals([error.status, error.code, error.cause], [500, "internal_error", cause]);
    assertEquals(JSON.stringify(error.body).includes("secret"), false);
  }
});

Deno.test("toApiError() keeps an ApiError", () => {
  const error = new ApiError(404, "no such model", { param: "model", code: "model_not_found" });
  assertEquals(toApiError(error), error);
});

Deno.test("ApiError.toResponse() is JSON with the error's headers", async () => {
  const response = new ApiError(405, "no PUT", { headers: { allow: "POST" } }).toResponse();
  assertMatch(response.headers.get("content-type") ?? "", /^application\/json/);
  assertEquals(response.headers.get("allow"), "POST");
  assertEquals(await response.json(), {
    error: { message: "no PUT", type: "invalid_request_error", param: null, code: null },
  });
});

Deno.test("wireName() is the field's name in the request", () => {
  assertEquals(["sampling.topP", "stopTokenIds", "n", "messages[0].content[1].type"].map(wireName), [
    "top_p",
    "stop_token_ids",
    "n",
    "messages[0].content[1].type",
  ]);
});
