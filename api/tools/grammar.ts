/**
 * What a turn has to be for its calls to be calls: names that were offered, arguments that are valid under their
 * schemas, in the way that the model's format has it.
 *
 * @module
 */

import { InvalidRequestError } from "../../runtime/errors.ts";
import { grammarOf } from "../../runtime/grammar/constraint.ts";
import type { Constraint } from "../../runtime/types.ts";
import type { FunctionTool, ToolFormat } from "./formats.ts";

/** How a format writes calls: what stands before all, between two, after all, and around the arguments. */
interface CallShape {
  start: string;
  join: string;
  finish: string;
  head: (name: string) => string;
  tail: string;
  /** What in a text begins a call; null where only a turn as a whole can be calls. */
  trigger: string | null;
}

function shapeOf(format: ToolFormat, template: string): CallShape {
  const object = (key: string) => (name: string) => `{"name": ${JSON.stringify(name)}, "${key}": `;
  switch (format) {
    case "hermes":
      return {
        start: "<tool_call>\n",
        join: "\n</tool_call>\n<tool_call>\n",
        finish: "\n</tool_call>",
        head: object("arguments"),
        tail: "}",
        trigger: "<tool_call>",
      };
    case "llama3_json":
      return { start: "", join: "; ", finish: "", head: object("parameters"), tail: "}", trigger: null };
    case "mistral":
      if (template.includes("[ARGS]")) {
        const mark = "[TOOL_CALLS]";
        return {
          start: mark,
          join: mark,
          finish: "",
          head: (name) => `${name}[ARGS]`,
          tail: "",
          trigger: mark,
        };
      }
      return {
        start: "[TOOL_CALLS] [",
        join: ", ",
        finish: "]",
        head: object("arguments"),
        tail: "}",
        trigger: "[TOOL_CALLS]",
      };
  }
}

/** What calls are made of. */
export interface CallOptions {
  format: ToolFormat;
  template: string;
  tools: readonly FunctionTool[];
  /** More than one call in a turn. */
  parallel: boolean;
}

/** A turn of calls and nothing else; `opening` is the part of it that the prompt ends with. */
export function callsConstraint(
  { format, template, tools, parallel }: CallOptions,
  opening = "",
): Constraint {
  const shape = shapeOf(format, template);
  const first = tools.map((tool) => {
    const before = shape.start + shape.head(tool.function.name);
    return before.startsWith(opening)
      ? sequence(before.slice(opening.length), argumentsOf(tool), shape.tail)
      : null;
  }).filter((call) => call !== null);
  const later = tools.map((tool) =>
    sequence(shape.join + shape.head(tool.function.name), argumentsOf(tool), shape.tail)
  );
  const parts: (Constraint | string)[] = [{ type: "either", options: first }];
  if (parallel) parts.push({ type: "repeat", part: { type: "either", options: later } });
  return sequence(...parts, shape.finish);
}

/** A turn that may be text, calls, or both where the format has both; null when no tool asks to be held to. */
export function autoConstraint(options: CallOptions): Constraint | null {
  if (!options.tools.some((tool) => tool.function.strict === true)) return null;
  const { trigger } = shapeOf(options.format, options.template);
  if (trigger !== null) {
    return {
      type: "dispatch",
      tags: [{ trigger, then: callsConstraint({ ...options, parallel: false }, trigger) }],
    };
  }
  // A turn that begins as a call is one.
  const text: Constraint = { type: "regex", pattern: "([^\\s{][\\s\\S]*)?" };
  return { type: "either", options: [text, callsConstraint(options)] };
}

/** A tool that is not strict may have a schema that no grammar can say: any object will do then. */
function argumentsOf({ function: { name, parameters, strict } }: FunctionTool): Constraint {
  const constraint: Constraint = parameters && Object.keys(parameters).length > 0
    ? { type: "jsonSchema", schema: parameters }
    : { type: "json" };
  try {
    grammarOf(constraint, `the parameters of the tool "${name}"`);
    return constraint;
  } catch (error) {
    if (!(error instanceof InvalidRequestError)) throw error;
    if (strict !== true) return { type: "json" };
    throw new InvalidRequestError(error.message, "tools", error.code, { cause: error });
  }
}

function sequence(...parts: readonly (Constraint | string)[]): Constraint {
  return {
    type: "sequence",
    parts: parts.filter((part) => part !== "").map((part) =>
      typeof part === "string" ? { type: "literal", text: part } : part
    ),
  };
}
