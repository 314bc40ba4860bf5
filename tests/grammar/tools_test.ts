import { assert, assertEquals } from "@std/assert";
import { Validator } from "@cfworker/json-schema";
import { callOpening, type FunctionTool, type ToolFormat } from "../../api/tools/formats.ts";
import { autoConstraint, callsConstraint } from "../../api/tools/grammar.ts";
import { readTurn, TurnParser } from "../../api/tools/turn.ts";
import { grammarOf } from "../../runtime/grammar/constraint.ts";
import { Walker } from "./walk.ts";

const FORMATS: [format: ToolFormat, template: string][] = [
  ["hermes", "<tool_call>"],
  ["llama3_json", "<|python_tag|>"],
  ["mistral", "[TOOL_CALLS]"],
  ["mistral", "[TOOL_CALLS] [ARGS]"],
];

const tools: FunctionTool[] = [
  {
    type: "function",
    function: {
      name: "look_up",
      parameters: {
        type: "object",
        properties: {
          word: { type: "string", maxLength: 6 },
          times: { type: "integer", minimum: 1, maximum: 3 },
        },
        required: ["word"],
        additionalProperties: false,
      },
      strict: true,
    },
  },
  {
    type: "function",
    function: { name: "say", parameters: { type: "object", properties: { a: { const: "b" } } } },
  },
];

function callsIn(format: ToolFormat, text: string, opening = "") {
  const names = new Set(tools.map((tool) => tool.function.name));
  const options = {
    tools: { format, names, parallel: true },
    thinking: null,
    startsThinking: false,
    opening,
  };
  const turn = readTurn(text, new TurnParser(options));
  for (const { name, arguments: json } of turn.calls) {
    const { parameters } = tools.find((tool) => tool.function.name === name)!.function;
    assert(new Validator(parameters!).validate(JSON.parse(json)).valid, `${name}: ${json}`);
  }
  return turn;
}

for (const [format, template] of FORMATS) {
  Deno.test(`callsConstraint() lets nothing but calls of ${template} through, which its parser finds`, async () => {
    using walker = await Walker.of("bytelevel-bpe-qwen2");
    let several = 0;
    for (let seed = 0; seed < 10; seed++) {
      for (const name of [null, "look_up"]) {
        const offered = name === null ? tools : tools.slice(0, 1);
        const opening = callOpening(format, template, name);
        const constraint = callsConstraint(
          { format, template, tools: offered, parallel: seed % 2 === 0 },
          opening,
        );
        const { text, whole } = await walker.walk(grammarOf(constraint), seed, 300);
        if (!whole) continue;
        const turn = callsIn(format, text, opening);
        assert(turn.calls.length > 0 && (seed % 2 === 0 || turn.calls.length === 1), text);
        assertEquals(turn.text, "");
        several += Number(turn.calls.length > 1);
      }
    }
    assert(several > 0);
  });

  Deno.test(`autoConstraint() keeps the calls of ${template} valid among other text`, async () => {
    using walker = await Walker.of("bytelevel-bpe-qwen2");
    const constraint = autoConstraint({ format, template, tools, parallel: true })!;
    const grammar = grammarOf(constraint);
    const id = await walker.service.acquire(grammar);
    // The model begins with a call: everything that may follow keeps it one.
    const call = format === "llama3_json" ? '{"name"' : template.split(" ")[0]!;
    const sequence = walker.sequence(id, 1);
    for (const token of walker.tokenizer.encode(call, { addSpecialTokens: false })) {
      assert((await walker.allowed(sequence)).includes(token), call);
      walker.take(sequence, token);
    }
    assert(!(await walker.allowed(sequence)).includes(walker.stopToken));
    // Text without a call is as free as ever.
    const free = walker.sequence(id, 2);
    for (const token of walker.tokenizer.encode("Ein Text, é {", { addSpecialTokens: false })) {
      assert((await walker.allowed(free)).includes(token));
      walker.take(free, token);
    }
    assert((await walker.allowed(free)).includes(walker.stopToken));
  });
}

Deno.test("autoConstraint() leaves a turn alone whose tools are not strict", () => {
  const loose = tools.map((tool) => ({ ...tool, function: { ...tool.function, strict: false } }));
  assertEquals(autoConstraint({ format: "hermes", template: "", tools: loose, parallel: true }), null);
});
