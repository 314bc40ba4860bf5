/**
 * From a response's body to a conversation.
 *
 * @module
 */

import { InvalidRequestError } from "../../runtime/errors.ts";
import type { ChatMessage, Constraint, GenerateRequest } from "../../runtime/types.ts";
import type { Conversation, PreparedTurn } from "../conversation.ts";
import { commonFields, present, ruleFieldsOf } from "../requests.ts";
import { type AskedConstraint, constraintOf } from "../schemas/structured.ts";
import { toolsOf } from "../schemas/tools.ts";
import { type InputItem, type ResponseBody, wantsLogprobs } from "./schema.ts";

/** The input as messages. Calls, thoughts and texts of the assistant that follow one another are one turn. */
export function inputMessages(input: ResponseBody["input"]): ChatMessage[] {
  if (typeof input === "string") return [{ role: "user", content: input }];
  const messages: ChatMessage[] = [];
  for (const item of input) add(messages, item);
  return messages;
}

function add(messages: ChatMessage[], item: InputItem): void {
  switch (item.type) {
    case "function_call": {
      const call = {
        id: item.call_id,
        type: "function",
        function: { name: item.name, arguments: item.arguments },
      };
      const turn = assistantTurn(messages);
      turn["tool_calls"] = [...turn["tool_calls"] as unknown[] ?? [], call];
      return;
    }
    case "function_call_output":
      messages.push({ role: "tool", content: textOf(item.output), tool_call_id: item.call_id });
      return;
    case "reasoning": {
      const text = (item.content ?? item.summary ?? []).map(({ text }) => text).join("\n");
      if (text !== "") assistantTurn(messages)["reasoning_content"] = text;
      return;
    }
    default: {
      const content = textOf(item.content);
      if (item.role === "assistant") {
        const turn = assistantTurn(messages);
        turn.content = turn.content === "" ? content : `${turn.content}\n${content}`;
      } else messages.push({ role: item.role === "developer" ? "system" : item.role, content });
    }
  }
}

/** The assistant's turn that is going on, else a new one. */
function assistantTurn(messages: ChatMessage[]): ChatMessage {
  const last = messages.at(-1);
  if (last?.role === "assistant") return last;
  const turn: ChatMessage = { role: "assistant", content: "" };
  messages.push(turn);
  return turn;
}

function textOf(content: Extract<InputItem, { role: string }>["content"]): string {
  if (typeof content === "string") return content;
  return content.map((part) => part.type === "refusal" ? part.refusal : part.text).join("\n");
}

/** The conversation that a body goes on with; `before` is that of the response before it. */
export function responseConversation(body: ResponseBody, before: readonly ChatMessage[]): Conversation {
  const tools = body.tools?.map(({ type, name, description, parameters, strict }) => ({
    type,
    function: { name, ...present({ description, parameters, strict }) },
  }));
  const choice = body.tool_choice;
  const named = ({ name }: { name: string }) => ({ type: "function" as const, function: { name } });
  const effort = body.reasoning?.effort;
  const instructions = body.instructions ?? "";
  return {
    ...toolsOf({
      tools,
      tool_choice: typeof choice !== "object" || choice === null
        ? choice
        : choice.type === "function"
        ? named(choice)
        : { type: choice.type, allowed_tools: { mode: choice.mode, tools: choice.tools.map(named) } },
    }),
    messages: [
      ...(instructions === "" ? [] : [{ role: "system", content: instructions }]),
      ...before,
      ...inputMessages(body.input),
    ],
    parallelToolCalls: body.parallel_tool_calls ?? true,
    variables: { ...(effort && { reasoning_effort: effort }), ...body.chat_template_kwargs },
    answer: answerOf(body),
  };
}

/** What the answer's text has to be, by text.format or one of the extras. */
function answerOf(body: ResponseBody): AskedConstraint | null {
  const format = body.text?.format ?? null;
  if (format === null || format.type === "text") return constraintOf(body);
  const constraint: Constraint = format.type === "json_schema"
    ? { type: "jsonSchema", schema: format.schema }
    : { type: "json" };
  const extra = constraintOf(body);
  if (extra === null) return { constraint, constraintParam: "text.format" };
  throw new InvalidRequestError(
    `text.format and ${extra.constraintParam} both say what the answer must be; only one of them may.`,
    extra.constraintParam,
    "invalid_value",
  );
}

/** The engine's request for a response. */
export function responseRequest(
  body: ResponseBody,
  { request: prepared }: PreparedTurn,
  signal: AbortSignal,
): GenerateRequest {
  const common = commonFields(body, signal);
  const stop = [...common.stop ?? [], ...prepared.stop ?? []];
  return present({
    ...common,
    ...ruleFieldsOf(body),
    ...prepared,
    stop: stop.length > 0 ? stop : undefined,
    maxTokens: body.max_output_tokens,
    logprobs: wantsLogprobs(body) ? body.top_logprobs ?? 0 : undefined,
  });
}
