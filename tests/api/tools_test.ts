import { assertEquals } from "@std/assert";
import { join } from "node:path";
import { type TurnEvent } from "../../api/tools/events.ts";
import {
  adaptMessages,
  callOpening,
  describeTools,
  newCallId,
  type ToolFormat,
  toolFormatOf,
} from "../../api/tools/formats.ts";
import { readTurn, type Thinking, thinkingOf, type TurnOptions, TurnParser } from "../../api/tools/turn.ts";
import { ChatTemplate } from "../../runtime/model/chat_template.ts";
import { fixtureNames, FIXTURES } from "../model/support.ts";

const THINK: Thinking = { open: "<think>", close: "</think>" };

function newParser(format: ToolFormat | null, options: Partial<TurnOptions> & { parallel?: boolean } = {}) {
  const { parallel = true, ...rest } = options;
  return new TurnParser({
    tools: format && { format, names: new Set(["weather", "f", "python"]), parallel },
    thinking: null,
    startsThinking: false,
    opening: "",
    ...rest,
  });
}

type Outcome = { reasoning: string; text: string; calls: [name: string, json: string][] };

/** A turn read in pieces of `size`, checked for order on the way. */
function read(parser: TurnParser, text: string, size: number): Outcome {
  const out: Outcome = { reasoning: "", text: "", calls: [] };
  const take = (events: TurnEvent[]) => {
    for (const event of events) {
      if (event.type === "reasoning") out.reasoning += event.text;
      else if (event.type === "text") out.text += event.text;
      else if (event.type === "call") {
        assertEquals(event.index, out.calls.length);
        out.calls.push([event.name, ""]);
      } else {
        assertEquals(event.index, out.calls.length - 1);
        out.calls[event.index]![1] += event.text;
      }
    }
  };
  for (let at = 0; at < text.length; at += size) take(parser.push(text.slice(at, at + size)));
  take(parser.finish());
  return out;
}

const cases: {
  name: string;
  format: ToolFormat | null;
  options?: Partial<TurnOptions> & { parallel?: boolean };
  input: string;
  wanted: Partial<Outcome>;
}[] = [
  { name: "text", format: "hermes", input: " Hello < world. \n", wanted: { text: " Hello < world. \n" } },
  {
    name: "one call",
    format: "hermes",
    input:
      '<tool_call>\n{"name": "weather", "arguments": {"city": "Pa}r\\"is", "n": [1, {"a": 2}]}}\n</tool_call>',
    wanted: { calls: [["weather", '{"city": "Pa}r\\"is", "n": [1, {"a": 2}]}']] },
  },
  {
    name: "text, two calls, the arguments first in one",
    format: "hermes",
    input: "Let me look.\n\n" +
      '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n<tool_call>{"arguments": {"a": 1}, "name": "weather"}</tool_call>',
    wanted: { text: "Let me look.", calls: [["f", "{}"], ["weather", '{"a": 1}']] },
  },
  {
    name: "calls that are not parallel",
    format: "hermes",
    options: { parallel: false },
    input:
      '<tool_call>{"name": "f", "arguments": {}}</tool_call><tool_call>{"name": "weather", "arguments": {"a": 1}}</tool_call>',
    wanted: { calls: [["f", "{}"]] },
  },
  {
    name: "no arguments, arguments as text, arguments null",
    format: "hermes",
    input:
      '<tool_call>{"name": "f"}</tool_call><tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call><tool_call>{"name": "f", "parameters": null}</tool_call>',
    wanted: { calls: [["f", "{}"], ["f", '{"a": 1}'], ["f", "{}"]] },
  },
  {
    name: "what is no call",
    format: "hermes",
    input: '<tool_call>hi there</tool_call> {"name": 1}',
    wanted: { text: '<tool_call>hi there</tool_call> {"name": 1}' },
  },
  {
    name: "a call without a name",
    format: "hermes",
    input: '<tool_call>{"arguments": {"a": 1}}',
    wanted: { text: '<tool_call>{"arguments": {"a": 1}}' },
  },
  {
    name: "a call that is cut off",
    format: "hermes",
    input: '<tool_call>\n{"name": "f", "arguments": {"city": "Par',
    wanted: { calls: [["f", '{"city": "Par']] },
  },
  {
    name: "a call that is not closed before the next",
    format: "hermes",
    input:
      '<tool_call>{"name": "f", "arguments": {}}\n<tool_call>{"name": "f", "arguments": {"b": 2}}</tool_call>x',
    wanted: { calls: [["f", "{}"], ["f", '{"b": 2}']], text: "x" },
  },
  {
    name: "the rest of a call whose beginning was given",
    format: "hermes",
    options: { opening: callOpening("hermes", "", "weather") },
    input: ' {"city": "Rome"}}\n',
    wanted: { calls: [["weather", '{"city": "Rome"}']] },
  },
  {
    name: "the rest of any call",
    format: "hermes",
    options: { opening: callOpening("hermes", "", null) },
    input: ' "f", "arguments": {"x": null}}\n</tool_call>',
    wanted: { calls: [["f", '{"x": null}']] },
  },
  { name: "text", format: "llama3_json", input: "Hello {you}", wanted: { text: "Hello {you}" } },
  {
    name: "a call with parameters",
    format: "llama3_json",
    input: '{"name": "weather", "parameters": {"city": "Oslo"}}',
    wanted: { calls: [["weather", '{"city": "Oslo"}']] },
  },
  {
    name: "tagged calls with a semicolon between",
    format: "llama3_json",
    input:
      '<|python_tag|>{"type": "function", "name": "f", "parameters": {}}; {"name": "weather", "parameters": {"a": 1}}',
    wanted: { calls: [["f", "{}"], ["weather", '{"a": 1}']] },
  },
  {
    name: "JSON that names no tool",
    format: "llama3_json",
    input: '{"name": "Alice", "age": 7}',
    wanted: { text: '{"name": "Alice", "age": 7}' },
  },
  {
    name: "text, then a tagged call",
    format: "llama3_json",
    input: 'I will ask.<|python_tag|>{"name": "f", "parameters": {"q": "x"}}',
    wanted: { text: "I will ask.", calls: [["f", '{"q": "x"}']] },
  },
  {
    name: "a built-in tool",
    format: "llama3_json",
    input: '<|python_tag|>brave_search.call(query="a, b", n=3)',
    wanted: { calls: [["brave_search", '{"query":"a, b","n":3}']] },
  },
  {
    name: "Python",
    format: "llama3_json",
    input: "<|python_tag|>print(1)\nprint(2)",
    wanted: { calls: [["python", '{"code":"print(1)\\nprint(2)"}']] },
  },
  {
    name: "a list of calls",
    format: "mistral",
    input:
      'Sure.[TOOL_CALLS] [{"name": "f", "arguments": {"a": "]"}}, {"name": "weather", "arguments": {}, "id": "abc"}]',
    wanted: { text: "Sure.", calls: [["f", '{"a": "]"}'], ["weather", "{}"]] },
  },
  {
    name: "calls by name with markers",
    format: "mistral",
    input: '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]weather[CALL_ID]123456789[ARGS]{"b": "{"}',
    wanted: { calls: [["f", '{"a": 1}'], ["weather", '{"b": "{"}']] },
  },
  {
    name: "calls by name without markers",
    format: "mistral",
    input: '[TOOL_CALLS]f{"a": 1}',
    wanted: { calls: [["f", '{"a": 1}']] },
  },
  {
    name: "the rest of a list whose beginning was given",
    format: "mistral",
    options: { opening: callOpening("mistral", "[TOOL_CALLS]", "f") },
    input: ' {"a": 1}}]',
    wanted: { calls: [["f", '{"a": 1}']] },
  },
  {
    name: "thoughts, then a call",
    format: "hermes",
    options: { thinking: THINK },
    input: '\n<think>\nHm, <tool_call>?\n\n</think>\n\n<tool_call>{"name": "f", "arguments": {}}</tool_call>',
    wanted: { reasoning: "Hm, <tool_call>?", calls: [["f", "{}"]] },
  },
  {
    name: "thoughts that the prompt opened",
    format: null,
    options: { thinking: THINK, startsThinking: true },
    input: "So.\n\nYes.\n</think>\n\nAnswer  here ",
    wanted: { reasoning: "So.\n\nYes.", text: "Answer  here " },
  },
  {
    name: "no thoughts of a model that thinks",
    format: null,
    options: { thinking: THINK },
    input: "<thin air",
    wanted: { text: "<thin air" },
  },
  {
    name: "empty thoughts",
    format: null,
    options: { thinking: THINK },
    input: "<think>\n\n</think>\n\nHi",
    wanted: { text: "Hi" },
  },
  {
    name: "thoughts that are cut off",
    format: null,
    options: { thinking: THINK },
    input: "<think>I wonder </thi",
    wanted: { reasoning: "I wonder </thi" },
  },
];

for (const { name, format, options, input, wanted } of cases) {
  Deno.test(`TurnParser reads ${name} (${format ?? "no tools"}), however it is cut`, () => {
    for (let size = 1; size <= input.length; size++) {
      const got = read(newParser(format, options), input, size);
      assertEquals(got, { reasoning: "", text: "", calls: [], ...wanted }, `pieces of ${size}`);
    }
  });
}

Deno.test("TurnParser gives arguments while they come", () => {
  const parser = newParser("hermes");
  assertEquals(parser.push('<tool_call>{"name": "f", ').map(({ type }) => type), ["call"]);
  assertEquals(parser.push('"arguments": {"a": "b'), [{ type: "arguments", index: 0, text: '{"a": "b' }]);
  assertEquals(parser.push("c"), [{ type: "arguments", index: 0, text: "c" }]);
});

Deno.test("readTurn() gives each call an id of its own", () => {
  const input = '<tool_call>{"name": "f"}</tool_call><tool_call>{"name": "f"}</tool_call>';
  const { calls } = readTurn(input, newParser("hermes"));
  assertEquals(new Set(calls.map(({ id }) => id)).size, 2);
  assertEquals(/^[0-9A-Za-z]{9}$/.test(newCallId("mistral")), true);
});

const formats: Record<string, ToolFormat | null> = {
  chatml: "hermes",
  gemma: "hermes",
  llama2: "hermes",
  llama3: "hermes",
  "llama3-tools": "llama3_json",
  mistral: "mistral",
  named: null,
  qwen: "hermes",
  zephyr: "hermes",
};

Deno.test("toolFormatOf() knows the templates' formats, Hermes' for those without tools", async () => {
  const found: Record<string, ToolFormat | null> = {};
  for (const name of fixtureNames("chat")) {
    found[name] = toolFormatOf((await ChatTemplate.fromFolder(join(FIXTURES, "chat", name)))!.source);
  }
  assertEquals(found, formats);
});

Deno.test("toolFormatOf() does not take other formats within <tool_call> for Hermes'", () => {
  for (const mark of ["<function=", "<arg_key>"]) {
    assertEquals(toolFormatOf(`{% for t in tools %}{% endfor %}<tool_call>${mark}`), null);
  }
});

Deno.test("thinkingOf() finds the marks of a template", async () => {
  assertEquals(thinkingOf("{{ '[THINK]' }}")?.close, "[/THINK]");
  assertEquals(thinkingOf("plain"), null);
  assertEquals(thinkingOf((await ChatTemplate.fromFolder(join(FIXTURES, "chat", "qwen")))!.source), THINK);
});

const called = [
  { role: "user", content: "Weather in Rome?" },
  {
    role: "assistant",
    content: "",
    tool_calls: [{
      id: "call_0123456789",
      type: "function",
      function: { name: "weather", arguments: '{"city":"Rome"}' },
    }],
  },
  { role: "tool", content: "Sunny", tool_call_id: "call_0123456789" },
];

Deno.test("adaptMessages() gives every template what it needs to render calls and results", async () => {
  const wanted: Record<string, string> = {
    qwen: '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>',
    mistral: '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Rome"}, "id": "123456789"}]</s>' +
      '[TOOL_RESULTS] {"content": Sunny, "call_id": "123456789"}',
    "llama3-tools": '{"name": "weather", "parameters": {"city": "Rome"}}<|eot_id|>',
  };
  for (const [name, text] of Object.entries(wanted)) {
    const template = (await ChatTemplate.fromFolder(join(FIXTURES, "chat", name)))!;
    const rendered = template.render(adaptMessages(called, toolFormatOf(template.source)));
    assertEquals(rendered.includes(text), true, rendered);
  }
});

Deno.test("describeTools() makes turns of what a template without tools cannot show", () => {
  const tools = [{ type: "function" as const, function: { name: "weather" } }];
  const [system, , assistant, result] = describeTools(called, tools);
  assertEquals(system!.role, "system");
  assertEquals(system!.content.includes('{"type":"function","function":{"name":"weather"}}'), true);
  assertEquals(assistant, {
    role: "assistant",
    content: '<tool_call>\n{"name":"weather","arguments":"{\\"city\\":\\"Rome\\"}"}\n</tool_call>',
  });
  assertEquals(result, { role: "user", content: "<tool_response>\nSunny\n</tool_response>" });
  const twice = describeTools([...called, { role: "tool", content: "Warm" }], []);
  assertEquals(twice.length, 3);
  assertEquals(
    describeTools([{ role: "system", content: "Hi" }], tools)[0]!.content.startsWith("Hi\n\n"),
    true,
  );
});
