/**
 * The response object of OpenAI's Responses API.
 *
 * @module
 */

import type { ModelInfo, Usage } from "../../runtime/types.ts";
import { newId, type OutputItem } from "./output.ts";
import type { ResponseBody } from "./schema.ts";

/** The object that `POST /v1/responses` answers with, and that its events carry. */
export type ResponseObject = ReturnType<typeof newResponse>;

/** Token counts of a response. */
export interface ResponseUsage {
  input_tokens: number;
  input_tokens_details: { cached_tokens: number };
  output_tokens: number;
  output_tokens_details: { reasoning_tokens: number };
  total_tokens: number;
}

/** A response that has just begun. */
export function newResponse(body: ResponseBody, model: ModelInfo) {
  return {
    id: newId("resp"),
    object: "response",
    created_at: Math.floor(Date.now() / 1000),
    status: "in_progress" as "in_progress" | "completed" | "incomplete" | "failed",
    background: false,
    error: null as { code: string; message: string } | null,
    incomplete_details: null as { reason: string } | null,
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    max_tool_calls: null,
    model: model.id,
    output: [] as OutputItem[],
    parallel_tool_calls: body.parallel_tool_calls ?? true,
    previous_response_id: body.previous_response_id ?? null,
    reasoning: { effort: body.reasoning?.effort ?? null, summary: null },
    service_tier: "default",
    store: body.store ?? true,
    temperature: body.temperature ?? null,
    text: { format: body.text?.format ?? { type: "text" } },
    tool_choice: body.tool_choice ?? "auto",
    tools: (body.tools ?? []).map((tool) => ({
      ...tool,
      description: tool.description ?? null,
      parameters: tool.parameters ?? null,
      strict: tool.strict ?? false,
    })),
    top_logprobs: body.top_logprobs ?? 0,
    top_p: body.top_p ?? null,
    truncation: "disabled",
    usage: null as ResponseUsage | null,
    user: body.user ?? null,
    metadata: body.metadata ?? {},
  };
}

/** The response at its end. One that its length has cut off is incomplete. */
export function finishedResponse(
  response: ResponseObject,
  { output, cut, usage, reasoningTokens }: {
    output: OutputItem[];
    cut: boolean;
    usage: Usage;
    reasoningTokens: number;
  },
): ResponseObject {
  return {
    ...response,
    status: cut ? "incomplete" : "completed",
    incomplete_details: cut ? { reason: "max_output_tokens" } : null,
    output,
    usage: {
      input_tokens: usage.promptTokens,
      input_tokens_details: { cached_tokens: usage.cachedTokens },
      output_tokens: usage.completionTokens,
      output_tokens_details: { reasoning_tokens: reasoningTokens },
      total_tokens: usage.promptTokens + usage.completionTokens,
    },
  };
}
