/**
 * From Anthropic's messages to a conversation.
 *
 * @module
 */

import type { ChatMessage, GenerateRequest } from "../../runtime/types.ts";
import type { Conversation, PreparedTurn, ToolChoice } from "../conversation.ts";
import { commonFields, present, ruleFieldsOf } from "../requests.ts";
import type { FunctionTool } from "../tools/formats.ts";
import type { Block, CountBody, Message, MessageBody } from "./schema.ts";

/** The conversation of a body. Where the last message is the assistant's, the model goes on with it. */
export function messageConversation(body: CountBody): Conversation {
  const choice = body.tool_choice ?? null;
  const continues = body.messages.at(-1)!.role === "assistant";
  const system = textOf(body.system ?? "");
  const thinks = body.thinking?.type;
  return {
    messages: [
      ...(system === "" ? [] : [{ role: "system", content: system }]),
      ...body.messages.flatMap(chatMessages),
    ],
    tools: (body.tools ?? []).map(({ name, description, input_schema, strict }): FunctionTool => ({
      type: "function",
      function: { name, ...present({ description, strict }), parameters: input_schema },
    })),
    toolChoice: choice === null ? "auto" : toolChoice(choice),
    parallelToolCalls: !(choice !== null && choice["disable_parallel_tool_use"] === true),
    // Qwen's name for it, which other templates have taken over.
    variables: thinks === undefined || thinks === "adaptive" ? {} : { enable_thinking: thinks === "enabled" },
    addGenerationPrompt: !continues,
    continueFinalMessage: continues,
  };
}

function toolChoice(choice: NonNullable<CountBody["tool_choice"]>): ToolChoice {
  switch (choice.type) {
    case "any":
      return "required";
    case "tool":
      return { name: choice.name };
    default:
      return choice.type;
  }
}

/** A message as the template's turns: results of tools are turns of their own, before the user's words. */
export function chatMessages({ role, content }: Message): ChatMessage[] {
  if (typeof content === "string") return [{ role, content }];
  const results: ChatMessage[] = [];
  const turn: ChatMessage = { role, content: content.flatMap(blockText).join("\n") };
  const calls: unknown[] = [];
  for (const block of content) {
    if (block.type === "tool_result") {
      results.push({ role: "tool", content: textOf(block.content ?? ""), tool_call_id: block.tool_use_id });
    } else if (block.type === "tool_use") {
      const call = { name: block.name, arguments: JSON.stringify(block.input) };
      calls.push({ id: block.id, type: "function", function: call });
    } else if (block.type === "thinking") turn["reasoning_content"] = block.thinking;
  }
  if (calls.length > 0) turn["tool_calls"] = calls;
  const silent = results.length > 0 && turn.content === "" && calls.length === 0;
  return silent ? results : [...results, turn];
}

function blockText(block: Block): string[] {
  return block.type === "text" ? [block.text] : [];
}

function textOf(content: NonNullable<CountBody["system"]>): string {
  return typeof content === "string" ? content : content.map(({ text }) => text).join("\n");
}

/** The engine's request for a message. */
export function messageRequest(
  body: MessageBody,
  { request: prepared }: PreparedTurn,
  signal: AbortSignal,
): GenerateRequest {
  const stop = [...body.stop_sequences ?? [], ...prepared.stop ?? []];
  return present({
    ...commonFields(body, signal),
    ...ruleFieldsOf(body),
    ...prepared,
    stop: stop.length > 0 ? stop : undefined,
    maxTokens: body.max_tokens,
  });
}
