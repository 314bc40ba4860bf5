/**
 * A conversation, whatever dialect it came in, as a prompt and a way to read the answer.
 *
 * @module
 */

import { InvalidRequestError } from "../runtime/errors.ts";
import type { ChatMessage, Constraint, Engine, GenerateRequest } from "../runtime/types.ts";
import type { AskedConstraint } from "./schemas/structured.ts";
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
import { autoConstraint, type CallOptions, callsConstraint } from "./tools/grammar.ts";
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
  /** What the answer's text has to be, beside its thoughts and calls. Default: anything. */
  answer?: AskedConstraint | null;
}

/** A conversation, ready to be generated. */
export interface PreparedTurn {
  /** What the engine has to be asked, beside sampling and length. */
  request:
    & { prompt: readonly number[] }
    & Pick<GenerateRequest, "stop" | "skipSpecialTokens" | "constraint" | "constraintParam">;
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
  const several = parallel && !isNamed(conversation);
  const special = (tools.length > 0 && hasSpecialMarkers(speaks!)) || thinking?.open === "[THINK]";
  const plain = tools.length === 0 && thinking === null;
  const names = new Set(tools.map((tool) => tool.function.name));
  return {
    request: {
      prompt,
      ...(special && { skipSpecialTokens: false }),
      ...(closing !== null && { stop: [closing] }),
      ...turnConstraint(
        conversation,
        { format: speaks!, template, tools, parallel: several },
        opening,
        opened,
      ),
    },
    newParser: plain ? null : () =>
      new TurnParser({
        tools: tools.length > 0 ? { format: speaks!, names, parallel: several } : null,
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
  const options = {
    addGenerationPrompt: conversation.addGenerationPrompt ?? true,
    continueFinalMessage: conversation.continueFinalMessage ?? false,
    ...(conversation.variables && { variables: conversation.variables }),
  };
  if (knowsTools(engine.model.chatTemplate)) {
    return engine.renderChat(adapted, { ...options, ...(tools.length > 0 && { tools }) });
  }
  try {
    return engine.renderChat(describeTools(adapted, tools), options);
  } catch (error) {
    // Some templates know no system; then the user tells of the tools.
    if (tools.length === 0 || adapted.some(({ role }) => role === "system")) throw error;
    return engine.renderChat(describeTools(adapted, tools, "user"), options);
  }
}

/** What the engine is held to: a call where one is asked for, else the form of the answer, or of strict tools' calls. */
function turnConstraint(
  { answer = null, toolChoice }: Conversation,
  calls: CallOptions,
  opening: string,
  opened: boolean,
): Pick<GenerateRequest, "constraint" | "constraintParam"> {
  const { tools } = calls;
  if (opening !== "") {
    const chosen = typeof toolChoice === "object"
      ? tools.filter((tool) => tool.function.name === toolChoice.name)
      : tools;
    const constraint = callsConstraint({ ...calls, tools: chosen }, opening);
    return { constraint, constraintParam: "tool_choice" };
  }
  const call = tools.length > 0 && answer !== null ? callsConstraint(calls) : null;
  const form: Constraint | null = answer === null
    ? tools.length > 0 ? autoConstraint(calls) : null
    : call === null
    ? answer.constraint
    : { type: "either", options: [answer.constraint, call] };
  if (form === null) return {};
  const constraintParam = answer?.constraintParam ?? "tools";
  return { constraint: afterThoughts(form, thinkingOf(calls.template), opened), constraintParam };
}

/** A model that thinks may do so before what it is held to. */
function afterThoughts(form: Constraint, thinking: Thinking | null, opened: boolean): Constraint {
  if (thinking === null) return form;
  const space: Constraint = { type: "regex", pattern: "\\s{0,8}" };
  const rest: Constraint[] = [{ type: "until", text: thinking.close }, space, form];
  if (opened) return { type: "sequence", parts: rest };
  const thoughts: Constraint = {
    type: "sequence",
    parts: [space, { type: "literal", text: thinking.open }, ...rest],
  };
  return { type: "either", options: [form, thoughts] };
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
