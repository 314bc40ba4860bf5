/**
 * A conversation, whatever dialect it came in, as a prompt and a way to read the answer.
 *
 * @module
 */

import { InvalidRequestError } from "../runtime/errors.ts";
import type { ChatMessage, Engine, GenerateRequest } from "../runtime/types.ts";
import {
  adaptMessages,
  callClosing,
  callOpening,
  describeTools,
  type FunctionTool,
  hasSpecialMarkers,
  knowsTools,
  type ToolFormat,
  toolFormatOf,
} from "./tools/formats.ts";
import { type Thinking, thinkingOf, TurnParser } from "./tools/turn.ts";

/** Whether the model calls tools: as it likes, not at all, at least one, or the one that is named. */
export type ToolChoice = "auto" | "none" | "required" | { name: string };

/** A conversation that the model shall go on with. */
export interface Conversation {
  messages: readonly ChatMessage[];
  tools?: readonly FunctionTool[];
  toolChoice?: ToolChoice;
  /** More than one call in a turn. Default true. */
  parallelToolCalls?: boolean;
  /** Further variables of the chat template. */
  variables?: Readonly<Record<string, unknown>>;
  /** Default true. */
  addGenerationPrompt?: boolean;
  /** Go on with the last message. Default false. */
  continueFinalMessage?: boolean;
  /** Add the tokens that a plain prompt starts with. Templates write their own: default false. */
  addSpecialTokens?: boolean;
  /** Tell thoughts from the answer. Default true. */
  splitReasoning?: boolean;
}

/** A conversation, ready to be generated. */
export interface PreparedTurn {
  /** What the engine has to be asked, beside sampling and length. */
  request: { prompt: readonly number[] } & Pick<GenerateRequest, "stop" | "skipSpecialTokens">;
  /** A parser for each choice; null where the answer is text and nothing else. */
  newParser: (() => TurnParser) | null;
}

/** Renders a conversation and decides how its answer is read. `format` overrides what the template says. */
export function prepareTurn(
  engine: Engine,
  conversation: Conversation,
  format: ToolFormat | null = null,
): PreparedTurn {
  const template = engine.model.chatTemplate;
  const tools = offeredTools(conversation);
  const speaks = format ?? toolFormatOf(template);
  if (tools.length > 0 && speaks === null) {
    throw new InvalidRequestError(
      `tools has ${tools.length} functions, but how the model "${engine.model.id}" writes calls is not known ` +
        "from its chat template; start the server with --tool-call-parser to name it",
      "tools",
      "unsupported_parameter",
    );
  }
  const text = renderConversation(engine, conversation, tools, speaks);
  const thinking = conversation.splitReasoning === false ? null : thinkingOf(template);
  const opened = endsThinking(text, thinkingOf(template)) && conversation.addGenerationPrompt !== false;
  const opening = openingOf(conversation, tools, speaks, template);
  // A call is no thought: where the prompt has opened the thoughts, they are closed first.
  const bridge = opening !== "" && opened ? `\n${thinkingOf(template)!.close}\n\n` : "";
  const parallel = conversation.parallelToolCalls ?? true;
  const prompt = engine.encode(text + bridge + opening, {
    addSpecialTokens: conversation.addSpecialTokens ?? false,
  });
  const closing = speaks !== null && (opening !== "" && (isNamed(conversation) || !parallel))
    ? callClosing(speaks)
    : null;
  const special = (tools.length > 0 && hasSpecialMarkers(speaks!)) || thinking?.open === "[THINK]";
  const plain = tools.length === 0 && thinking === null;
  const names = new Set(tools.map((tool) => tool.function.name));
  return {
    request: {
      prompt,
      ...(special && { skipSpecialTokens: false }),
      ...(closing !== null && { stop: [closing] }),
    },
    newParser: plain ? null : () =>
      new TurnParser({
        tools: tools.length > 0
          ? { format: speaks!, names, parallel: parallel && !isNamed(conversation) }
          : null,
        thinking,
        startsThinking: thinking !== null && opened && opening === "",
        opening,
      }),
  };
}

/** The prompt as text. */
export function renderConversation(
  engine: Engine,
  conversation: Conversation,
  tools: readonly FunctionTool[] = offeredTools(conversation),
  format: ToolFormat | null = toolFormatOf(engine.model.chatTemplate),
): string {
  const adapted = adaptMessages(conversation.messages, format);
  const known = knowsTools(engine.model.chatTemplate);
  return engine.renderChat(known ? adapted : describeTools(adapted, tools), {
    addGenerationPrompt: conversation.addGenerationPrompt ?? true,
    continueFinalMessage: conversation.continueFinalMessage ?? false,
    ...(known && tools.length > 0 && { tools }),
    ...(conversation.variables && { variables: conversation.variables }),
  });
}

/** The tools that the model is told of: none where it may call none, since nothing else would keep it from it. */
function offeredTools({ tools = [], toolChoice }: Conversation): readonly FunctionTool[] {
  return toolChoice === "none" ? [] : tools;
}

function isNamed({ toolChoice }: Conversation): boolean {
  return typeof toolChoice === "object";
}

/** How the turn has to begin for a call that is asked for. */
function openingOf(
  { toolChoice, tools = [] }: Conversation,
  offered: readonly FunctionTool[],
  format: ToolFormat | null,
  template: string,
): string {
  if (offered.length === 0 || format === null) return "";
  if (typeof toolChoice === "object") return callOpening(format, template, toolChoice.name);
  if (toolChoice !== "required") return "";
  return callOpening(format, template, tools.length === 1 ? tools[0]!.function.name : null);
}

/** Whether a prompt ends where the model's thoughts begin. */
function endsThinking(prompt: string, thinking: Thinking | null): boolean {
  return thinking !== null && prompt.trimEnd().endsWith(thinking.open);
}
