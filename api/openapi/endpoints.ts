/**
 * What the API has: each path and method with its schemas and statuses. A test holds this against the routes.
 *
 * @module
 */

import type { z } from "zod";
import { countBody, messageBody } from "../messages/schema.ts";
import { responseBody } from "../responses/schema.ts";
import { chatBody } from "../schemas/chat.ts";
import { completionBody } from "../schemas/completions.ts";
import { detokenizeBody, tokenizeBody } from "../schemas/tokenize.ts";
import * as answers from "./answers.ts";

/** One method of one path. */
export interface Endpoint {
  method: "get" | "post" | "delete";
  /** With `{name}` for what varies. */
  path: string;
  tag: "OpenAI" | "Anthropic" | "Tokenizer" | "Server";
  summary: string;
  /** Schema of the request's JSON. */
  body?: z.ZodType;
  /** A request's JSON. */
  example?: Record<string, unknown>;
  /** Schema of the answer's JSON; null for text. */
  answer: z.ZodType | null;
  /** The same where the answer is no JSON. */
  answerType?: string;
  /** Schema of an event's JSON, where the answer can be streamed. */
  event?: z.ZodType;
  /** Whether the stream's last event is `[DONE]`. */
  done?: boolean;
  /** Statuses of errors, beside those that every endpoint may answer. */
  errors: readonly number[];
  /** Schema of the body that errors have. Default: OpenAI's. */
  error?: z.ZodType;
  /** Probes need no key. */
  open?: boolean;
}

/** What can befall a request with a body, and one that generates. */
const BODY_ERRORS = [400, 404, 413, 415];
const RUN_ERRORS = [...BODY_ERRORS, 429, 503, 504];

const messages = [{ role: "user", content: "Tell me a story about a fox" }];

/** All of them. */
export const ENDPOINTS: readonly Endpoint[] = [
  {
    method: "post",
    path: "/v1/chat/completions",
    tag: "OpenAI",
    summary: "The next turn of a conversation",
    body: chatBody,
    example: { messages, max_tokens: 32 },
    answer: answers.chatAnswer,
    event: answers.chatChunk,
    done: true,
    errors: RUN_ERRORS,
  },
  {
    method: "post",
    path: "/v1/completions",
    tag: "OpenAI",
    summary: "What follows a text",
    body: completionBody,
    example: { prompt: "Once upon a time", max_tokens: 32 },
    answer: answers.completionAnswer,
    event: answers.completionAnswer,
    done: true,
    errors: RUN_ERRORS,
  },
  {
    method: "post",
    path: "/v1/responses",
    tag: "OpenAI",
    summary: "A response, which may go on with a stored one",
    body: responseBody,
    example: { input: "Tell me a story about a fox", max_output_tokens: 32 },
    answer: answers.responseAnswer,
    event: answers.typedEvent,
    errors: RUN_ERRORS,
  },
  {
    method: "get",
    path: "/v1/responses/{id}",
    tag: "OpenAI",
    summary: "A stored response",
    answer: answers.responseAnswer,
    errors: [404],
  },
  {
    method: "delete",
    path: "/v1/responses/{id}",
    tag: "OpenAI",
    summary: "Forget a stored response",
    answer: answers.deletedAnswer,
    errors: [404],
  },
  {
    method: "get",
    path: "/v1/models",
    tag: "OpenAI",
    summary: "The served model, in a list",
    answer: answers.modelsAnswer,
    errors: [],
  },
  {
    method: "get",
    path: "/v1/models/{id}",
    tag: "OpenAI",
    summary: "The served model",
    answer: answers.modelAnswer,
    errors: [404],
  },
  {
    method: "post",
    path: "/v1/messages",
    tag: "Anthropic",
    summary: "The next message of a conversation",
    body: messageBody,
    example: { messages, max_tokens: 32 },
    answer: answers.messageAnswer,
    event: answers.typedEvent,
    errors: RUN_ERRORS,
    error: answers.messageError,
  },
  {
    method: "post",
    path: "/v1/messages/count_tokens",
    tag: "Anthropic",
    summary: "How many tokens a conversation has",
    body: countBody,
    example: { messages },
    answer: answers.countAnswer,
    errors: [...BODY_ERRORS, 503],
    error: answers.messageError,
  },
  {
    method: "post",
    path: "/tokenize",
    tag: "Tokenizer",
    summary: "The tokens of a text or of a conversation",
    body: tokenizeBody,
    example: { prompt: "Once upon a time" },
    answer: answers.tokenizeAnswer,
    errors: [...BODY_ERRORS, 503],
  },
  {
    method: "post",
    path: "/detokenize",
    tag: "Tokenizer",
    summary: "The text of tokens",
    body: detokenizeBody,
    example: { tokens: [7, 8, 9] },
    answer: answers.detokenizeAnswer,
    errors: [...BODY_ERRORS, 503],
  },
  {
    method: "get",
    path: "/health",
    tag: "Server",
    summary: "Whether the server is alive, and how busy",
    answer: answers.healthAnswer,
    errors: [503],
    error: answers.healthAnswer,
    open: true,
  },
  {
    method: "get",
    path: "/ready",
    tag: "Server",
    summary: "Whether to send requests here, and why not",
    answer: answers.readyAnswer,
    errors: [503],
    error: answers.readyAnswer,
    open: true,
  },
  {
    method: "get",
    path: "/metrics",
    tag: "Server",
    summary: "Counters in Prometheus' text format",
    answer: null,
    answerType: "text/plain",
    errors: [],
  },
  {
    method: "get",
    path: "/version",
    tag: "Server",
    summary: "What runs here",
    answer: answers.versionAnswer,
    errors: [],
  },
];
