/**
 * Tools, the choice among them and calls, in OpenAI's form.
 *
 * @module
 */

import { z } from "zod";
import { InvalidRequestError } from "../../runtime/errors.ts";
import type { ToolChoice } from "../conversation.ts";
import type { FunctionTool } from "../tools/formats.ts";
import { flag, list } from "./fields.ts";

/** Tools of one request at most. */
export const MAX_TOOLS = 512;

const nameWanted = "a name of 1 to 128 letters, digits, _, - or .";

/** The name of a function. */
export const functionName = z.string(nameWanted).regex(/^[\w.-]{1,128}$/, nameWanted);

/** A JSON schema, which is shown to the model. */
export const parametersField = z.record(z.string(), z.unknown(), "a JSON schema (an object)").nullish();

const functionTool = z.looseObject({
  type: z.literal("function", '"function": tools of other types are not supported'),
  function: z.looseObject({
    name: functionName,
    description: z.string("a text").nullish(),
    parameters: parametersField,
    strict: flag(),
  }, "a function with a name"),
}, 'a tool such as {"type": "function", "function": {"name": "…"}}');

/** The tools that a model may call. */
export const toolsField = list(functionTool, {
  max: MAX_TOOLS,
  wanted: `an array of at most ${MAX_TOOLS} tools`,
})
  .nullish();

const choiceWanted =
  '"none", "auto", "required", {"type": "function", "function": {"name": "…"}} or {"type": "allowed_tools", …}';

const namedTool = z.object({ type: z.literal("function"), function: z.object({ name: functionName }) });

/** Which of them it calls. */
export const toolChoiceField = z.union([
  z.enum(["none", "auto", "required"]),
  namedTool,
  z.object({
    type: z.literal("allowed_tools"),
    allowed_tools: z.object({
      mode: z.enum(["auto", "required"]),
      tools: z.array(namedTool).min(1).max(MAX_TOOLS),
    }),
  }),
], choiceWanted).nullish();

/** A call in a message of the assistant. */
export const toolCall = z.looseObject({
  id: z.string("the id of a call"),
  type: z.literal("function", '"function": calls of other types are not supported').nullish(),
  function: z.looseObject(
    { name: functionName, arguments: z.string("arguments as a JSON text") },
    "a function",
  ),
}, 'a call such as {"id": "…", "type": "function", "function": {"name": "…", "arguments": "{}"}}');

/** The tools that may be called and the choice among them. */
export function toolsOf(
  { tools, tool_choice: choice }: {
    tools?: z.output<typeof toolsField>;
    tool_choice?: z.output<typeof toolChoiceField>;
  },
): { tools: FunctionTool[]; toolChoice: ToolChoice } {
  const offered = (tools ?? []) as FunctionTool[];
  if (choice === null || choice === undefined) return { tools: offered, toolChoice: "auto" };
  if (choice === "none" || choice === "auto") return { tools: offered, toolChoice: choice };
  if (choice === "required") return { tools: named(offered, []), toolChoice: choice };
  if (choice.type === "function") {
    named(offered, [choice.function.name]);
    return { tools: offered, toolChoice: choice.function };
  }
  const { mode, tools: allowed } = choice.allowed_tools;
  return { tools: named(offered, allowed.map((tool) => tool.function.name)), toolChoice: mode };
}

/** The tools of these names, all of them for none; each name must be that of a tool, and there must be tools. */
function named(tools: FunctionTool[], names: readonly string[]): FunctionTool[] {
  if (tools.length === 0) {
    throw new InvalidRequestError(
      'tool_choice asks for a call, but tools is empty; it must be "none" or "auto" without tools.',
      "tool_choice",
      "invalid_value",
    );
  }
  for (const name of names) {
    if (tools.some((tool) => tool.function.name === name)) continue;
    throw new InvalidRequestError(
      `tool_choice names the function "${name}"; it must be one of those in tools: ${
        tools.slice(0, 8).map((tool) => `"${tool.function.name}"`).join(", ")
      }${tools.length > 8 ? ", …" : ""}.`,
      "tool_choice",
      "invalid_value",
    );
  }
  return names.length === 0 ? tools : tools.filter((tool) => names.includes(tool.function.name));
}
