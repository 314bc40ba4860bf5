/**
 * How models write calls of tools: which format a chat template speaks, its parser, how a call begins, and how to
 * tell a model of tools whose template does not.
 *
 * @module
 */

import type { ChatMessage } from "../../runtime/types.ts";
import type { ToolParser, TurnWriter } from "./events.ts";
import { HermesParser } from "./hermes.ts";
import { LlamaParser } from "./llama.ts";
import { MistralParser } from "./mistral.ts";
import type { ToolFormat } from "./names.ts";

export type { ToolFormat } from "./names.ts";

/** A function that the model may call, in OpenAI's form. */
export interface FunctionTool {
  type: "function";
  function: { name: string; description?: string; parameters?: Record<string, unknown>; strict?: boolean };
}

/** Whether a template shows tools to the model. One that does not is helped by `describeTools`. */
export function knowsTools(template: string): boolean {
  return /\btools\b/.test(template);
}

/** The format that a template's text speaks: Hermes' where it says nothing of tools, null where it is unknown. */
export function toolFormatOf(template: string): ToolFormat | null {
  if (template.includes("[TOOL_CALLS]")) return "mistral";
  const others = ["<function=", "<arg_key>"]; // Qwen3-Coder's and GLM's way to fill the same tag
  if (template.includes("<tool_call>") && !others.some((mark) => template.includes(mark))) return "hermes";
  if (template.includes("<|python_tag|>")) return "llama3_json";
  if (template.includes("ipython") && template.includes('"parameters"')) return "llama3_json";
  return knowsTools(template) ? null : "hermes";
}

/** A parser of a format, for one turn. */
export function newToolParser(format: ToolFormat, writer: TurnWriter): ToolParser {
  switch (format) {
    case "hermes":
      return new HermesParser(writer);
    case "llama3_json":
      return new LlamaParser(writer);
    case "mistral":
      return new MistralParser(writer);
  }
}

/**
 * How a turn begins that must be a call: of the named function, else of any. It ends where a token of the model's
 * own can follow: space before a value belongs to the value's first token.
 */
export function callOpening(format: ToolFormat, template: string, name: string | null): string {
  const quoted = name === null ? "" : ` ${JSON.stringify(name)}, `;
  switch (format) {
    case "hermes":
      return `<tool_call>\n{"name":${quoted}${name === null ? "" : '"arguments":'}`;
    case "llama3_json":
      return `{"name":${quoted}${name === null ? "" : '"parameters":'}`;
    case "mistral":
      if (template.includes("[ARGS]")) return `[TOOL_CALLS]${name === null ? "" : `${name}[ARGS]`}`;
      return `[TOOL_CALLS] [{"name":${quoted}${name === null ? "" : '"arguments":'}`;
  }
}

/** What certainly ends a call, for a turn that has room for one only. */
export function callClosing(format: ToolFormat): string | null {
  return format === "hermes" ? "</tool_call>" : null;
}

/** Whether calls begin with special tokens, which are left out of text unless asked for. */
export function hasSpecialMarkers(format: ToolFormat): boolean {
  return format !== "hermes";
}

const LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/** A fresh id of a call. Mistral's templates insist on nine letters or digits. */
export function newCallId(format: ToolFormat): string {
  if (format !== "mistral") return `call_${crypto.randomUUID().replaceAll("-", "")}`;
  return Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => LETTERS[byte % 62]).join("");
}

/** Messages as a template of this format takes them: arguments as objects, ids as short as it insists on. */
export function adaptMessages(messages: readonly ChatMessage[], format: ToolFormat | null): ChatMessage[] {
  const id = (id: unknown) => format === "mistral" && typeof id === "string" ? id.slice(-9) : id;
  return messages.map((message) => {
    const { tool_calls: calls, ...rest } = message;
    if (rest["tool_call_id"] !== undefined) rest["tool_call_id"] = id(rest["tool_call_id"]);
    if (!Array.isArray(calls) || calls.length === 0) return rest as ChatMessage;
    const adapted = calls.map((call) => ({
      ...call,
      id: id(call.id),
      function: { ...call.function, arguments: objectOf(call.function.arguments) },
    }));
    return { ...rest, tool_calls: adapted } as ChatMessage;
  });
}

/** Arguments as templates want them. Those that a model wrote wrong stay the text that they are. */
function objectOf(json: unknown): unknown {
  if (typeof json !== "string") return json ?? {};
  if (json.trim() === "") return {};
  try {
    return JSON.parse(json);
  } catch {
    return json;
  }
}

/**
 * For a template that knows no tools: they are described by the system (or, where it knows no system either, by the
 * first of the users), and calls and results are text of turns.
 */
export function describeTools(
  messages: readonly ChatMessage[],
  tools: readonly FunctionTool[],
  teller: "system" | "user" = "system",
): ChatMessage[] {
  const out: ChatMessage[] = [];
  let results = false;
  for (const message of messages) {
    const { tool_calls: calls, tool_call_id: _, ...rest } = message;
    if (message.role === "tool") {
      const content = `<tool_response>\n${message.content}\n</tool_response>`;
      const last = out.at(-1);
      if (results && last !== undefined) last.content += `\n${content}`;
      else out.push({ role: "user", content });
    } else if (Array.isArray(calls)) {
      const texts = calls.map((call) => `<tool_call>\n${JSON.stringify(call.function)}\n</tool_call>`);
      out.push({ ...rest, content: [message.content, ...texts].filter((text) => text !== "").join("\n") });
    } else out.push(rest as ChatMessage);
    results = message.role === "tool";
  }
  if (tools.length === 0) return out;
  const text = instructions(tools);
  const at = out.findIndex(({ role }) => role === teller);
  const first = out[at];
  if (first === undefined) out.unshift({ role: teller, content: text });
  else {
    const told = teller === "system" ? [first.content, text] : [text, first.content];
    out[at] = { ...first, content: told.join("\n\n") };
  }
  return out;
}

function instructions(tools: readonly FunctionTool[]): string {
  return [
    "You may call these functions to help with the user's query:",
    "<tools>",
    ...tools.map((tool) => JSON.stringify(tool)),
    "</tools>",
    "For each call, answer with a JSON object within <tool_call></tool_call>:",
    '<tool_call>\n{"name": <function-name>, "arguments": <arguments-object>}\n</tool_call>',
  ].join("\n");
}
