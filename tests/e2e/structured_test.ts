import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { Validator } from "@cfworker/json-schema";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { CANNOT_CHAT, type Service, startService } from "./service.ts";

let service: Service;
let client: OpenAI;
let model: string;
Deno.test.beforeAll(async () => {
  if (CANNOT_CHAT) return;
  service = await startService({ slots: 4 });
  client = new OpenAI({ baseURL: `${service.url}/v1`, apiKey: "none", maxRetries: 0 });
  model = service.engine.model.id;
});
Deno.test.afterAll(async () => await service?.[Symbol.asyncDispose]());

const needed = { ignore: CANNOT_CHAT };
const messages = [{ role: "user" as const, content: "Tell me a story about a fox" }];

const Story = z.object({
  title: z.string().max(24),
  hero: z.object({ name: z.enum(["Fox", "Füchsin", '"Red"']), age: z.int().min(1).max(12) }),
  friends: z.array(z.string().max(10)).min(1).max(3),
  happy: z.boolean(),
  moral: z.string().max(30).nullable(),
});

Deno.test("OpenAI.chat.completions.parse() gives what the zod schema says", needed, async () => {
  for (let seed = 0; seed < 6; seed++) {
    const answer = await client.chat.completions.parse({
      model,
      messages,
      seed,
      temperature: 1.3,
      response_format: zodResponseFormat(Story, "story"),
    });
    const [choice] = answer.choices;
    assertEquals(choice!.finish_reason, "stop");
    assert(Story.safeParse(choice!.message.parsed).success);
  }
});

Deno.test("OpenAI.chat.completions.stream() gives the same in pieces", needed, async () => {
  const body = { model, messages, seed: 3, response_format: zodResponseFormat(Story, "story") };
  const whole = await client.chat.completions.parse(body);
  const streamed = await client.chat.completions.stream(body).finalChatCompletion();
  assertEquals(streamed.choices[0]!.message.parsed, whole.choices[0]!.message.parsed);
});

Deno.test("OpenAI.responses.parse() gives what the zod schema says", needed, async () => {
  const answer = await client.responses.parse({
    model,
    input: "Tell me a story",
    text: { format: zodTextFormat(Story, "story") },
  });
  assert(Story.safeParse(answer.output_parsed).success);
  assertEquals(answer.text?.format?.type, "json_schema");
});

Deno.test("POST /v1/chat/completions gives an object for json_object, n times", needed, async () => {
  const answer = await client.chat.completions.create({
    model,
    messages,
    n: 3,
    seed: 1,
    max_tokens: 400,
    response_format: { type: "json_object" },
  });
  for (const { finish_reason, message } of answer.choices) {
    if (finish_reason === "stop") JSON.parse(message.content!);
    assertStringIncludes(message.content!, "{");
  }
});

const extras: [fields: Record<string, unknown>, accepts: RegExp][] = [
  [{ guided_regex: "\\d{3}-[a-f]{2}" }, /^\d{3}-[a-f]{2}$/],
  [{ guided_choice: ["ja", "nein"] }, /^(ja|nein)$/],
  [{ guided_grammar: 'root ::= "x" [0-9]{2}' }, /^x[0-9]{2}$/],
  [{ guided_json: { type: "integer", minimum: 10, maximum: 12 } }, /^1[0-2]$/],
  [{ guided_json: '{"enum": ["a", 7]}' }, /^("a"|7)$/],
  [{ structured_outputs: { choice: ["eins", "zwei"] } }, /^(eins|zwei)$/],
  [{ structured_outputs: { regex: "a{4}" } }, /^aaaa$/],
  [{ json_schema: { const: [1, { a: null }] } }, /^\[1, \{"a": null\}\]$/],
  [{ grammar: 'root ::= "y"{3}' }, /^yyy$/],
];

Deno.test("POST /v1/completions holds the answer to each of the extras", needed, async () => {
  for (const [fields, accepts] of extras) {
    const { choices } = await service.complete({ prompt: "Once", max_tokens: 30, temperature: 1, ...fields });
    assert(accepts.test(choices[0].text), `${JSON.stringify(fields)}: ${choices[0].text}`);
    assertEquals(choices[0].finish_reason, "stop");
  }
});

const refused: [fields: Record<string, unknown>, param: string, says: string][] = [
  [
    { guided_json: { properties: { a: { not: {} } } } },
    "guided_json",
    '#/properties/a: "not" is not supported',
  ],
  [{ guided_json: { $ref: "#/$defs/none" } }, "guided_json", "which is not there"],
  [{ guided_json: "{" }, "guided_json", "no JSON"],
  [{ guided_regex: "(a" }, "guided_regex", "at character 3"],
  [{ guided_grammar: 'root ::= "a" rest' }, "guided_grammar", 'Rule "rest" is not defined'],
  [{ guided_grammar: "start ::= x" }, "guided_grammar", 'no rule "root"'],
  [{ guided_grammar: 'root ::= "a"\n  [é-ü]' }, "guided_grammar", "line 2"],
  [{ guided_choice: [] }, "guided_choice", "1 to 4096"],
  [{ guided_choice: ["a"], guided_regex: "b" }, "guided_choice", "only one"],
  [{ structured_outputs: { json: { type: "text" } } }, "structured_outputs.json", 'type is "text"'],
  [{ response_format: { type: "json_schema" } }, "response_format", "json_schema"],
];

Deno.test(
  "POST /v1/completions refuses constraints that cannot be had, by name and place",
  needed,
  async () => {
    for (const stream of [false, true]) {
      for (const [fields, param, says] of refused) {
        const response = await service.post("/v1/completions", { prompt: "Once", stream, ...fields });
        const { error } = await response.json();
        assertEquals(
          [response.status, String(error.param).startsWith(param)],
          [400, true],
          JSON.stringify(error),
        );
        assertStringIncludes(error.message, says);
      }
    }
  },
);

const tools = [{
  type: "function" as const,
  function: {
    name: "find_animal",
    description: "Looks for an animal",
    parameters: {
      type: "object",
      properties: {
        animal: { type: "string", enum: ["fox", "owl"] },
        count: { type: "integer", minimum: 1, maximum: 9 },
      },
      required: ["animal", "count"],
      additionalProperties: false,
    },
    strict: true,
  },
}, {
  type: "function" as const,
  function: {
    name: "sing",
    parameters: { type: "object", properties: { song: { type: "string", maxLength: 20 } } },
  },
}];

/** Calls that are of the tools and valid under their schemas. */
function checkCalls(
  calls: readonly OpenAI.ChatCompletionMessageToolCall[] | undefined,
  names: readonly string[],
) {
  assert((calls?.length ?? 0) > 0);
  for (const call of calls ?? []) {
    if (call.type !== "function") throw new Error(`a call of type ${call.type}`);
    const tool = tools.find(({ function: { name } }) => name === call.function.name)!;
    assert(names.includes(tool.function.name));
    const { valid } = new Validator(tool.function.parameters as object).validate(
      JSON.parse(call.function.arguments),
    );
    assert(valid, call.function.arguments);
  }
}

Deno.test("POST /v1/chat/completions makes calls that are required or named valid", needed, async () => {
  for (let seed = 0; seed < 4; seed++) {
    const body = {
      model,
      messages,
      tools,
      seed,
      temperature: 1.2,
      max_tokens: 200,
      parallel_tool_calls: false,
    };
    const required = await client.chat.completions.create({ ...body, tool_choice: "required" });
    checkCalls(required.choices[0]!.message.tool_calls, ["find_animal", "sing"]);
    const tool_choice = { type: "function" as const, function: { name: "find_animal" } };
    const named = await client.chat.completions.create({ ...body, tool_choice });
    checkCalls(named.choices[0]!.message.tool_calls, ["find_animal"]);
  }
});

Deno.test("POST /v1/messages makes the calls of tool_choice any valid", needed, async () => {
  const response = await service.post("/v1/messages", {
    messages,
    max_tokens: 200,
    tool_choice: { type: "any", disable_parallel_tool_use: true },
    tools: tools.map(({ function: { name, parameters } }) => ({ name, input_schema: parameters })),
  });
  const { content } = await response.json();
  const use = content.find(({ type }: { type: string }) => type === "tool_use");
  const schema = tools.find(({ function: { name } }) => name === use.name)!.function.parameters;
  assert(new Validator(schema as object).validate(use.input).valid, JSON.stringify(content));
});

Deno.test(
  "OpenAI.chat.completions.create() is refused a strict tool that no grammar can say",
  needed,
  async () => {
    const parameters = { type: "object", properties: { a: { type: "array", uniqueItems: true } } };
    const strict = [{ type: "function" as const, function: { name: "f", parameters, strict: true } }];
    const error = await assertRejects(
      () => client.chat.completions.create({ model, messages, tools: strict }),
      OpenAI.BadRequestError,
    );
    assertStringIncludes(error.message, '#/properties/a: "uniqueItems" is not supported');
    assertEquals(error.param, "tools");
  },
);
