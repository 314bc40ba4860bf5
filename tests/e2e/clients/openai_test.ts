import { assert, assertEquals, assertRejects } from "@std/assert";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import {
  type Address,
  CANNOT_CHAT,
  NAME,
  ofType,
  startReal,
  startScripted,
  WEATHER,
  weatherScript,
} from "./servers.ts";

let real: Address, scripted: Address;
let client: OpenAI, caller: OpenAI;
Deno.test.beforeAll(async () => {
  if (CANNOT_CHAT) return;
  [real, scripted] = [await startReal(), await startScripted(weatherScript)];
  const options = { apiKey: "none", maxRetries: 0 };
  client = new OpenAI({ ...options, baseURL: `${real.url}/v1` });
  caller = new OpenAI({ ...options, baseURL: `${scripted.url}/v1` });
});
Deno.test.afterAll(async () => {
  await real?.[Symbol.asyncDispose]();
  await scripted?.[Symbol.asyncDispose]();
});

const needed = { ignore: CANNOT_CHAT };
const messages = [{ role: "user" as const, content: "What is the weather in Rome?" }];
const weather = zodFunction({
  name: "weather",
  parameters: z.object({ city: z.string() }),
  function: () => JSON.stringify(WEATHER),
  description: "Tells the weather",
});
const { type, function: { name, parameters } } = weather;
const tools = [{ type, function: { name, parameters } }] as OpenAI.ChatCompletionFunctionTool[];
const functionTool = { type: "function" as const, name, parameters: parameters ?? null, strict: true };

Deno.test("OpenAI.chat.completions.create() asks for a call, and takes its result", needed, async () => {
  const first = await caller.chat.completions.create({ model: "scripted", messages, tools });
  const { message, finish_reason } = first.choices[0]!;
  const call = ofType(message.tool_calls, "function");
  assertEquals([finish_reason, call.function], ["tool_calls", { name, arguments: '{"city": "Rome"}' }]);
  const result = { role: "tool" as const, tool_call_id: call.id, content: JSON.stringify(WEATHER) };
  const second = await caller.chat.completions.create({
    model: "scripted",
    messages: [...messages, message, result],
    tools,
  });
  assertEquals(second.choices[0]!.message.content, "Sunny in Rome, 21 degrees.");
});

Deno.test("OpenAI.chat.completions.parse() parses the arguments of a call", needed, async () => {
  const { choices } = await caller.chat.completions.parse({ model: "scripted", messages, tools: [weather] });
  assertEquals(ofType(choices[0]!.message.tool_calls, "function").function.parsed_arguments, {
    city: "Rome",
  });
});

Deno.test("OpenAI.chat.completions.stream() puts a call together", needed, async () => {
  const stream = caller.chat.completions.stream({ model: "scripted", messages, tools: [weather] });
  const deltas: string[] = [];
  stream.on("tool_calls.function.arguments.delta", ({ arguments_delta }) => deltas.push(arguments_delta));
  const { choices } = await stream.finalChatCompletion();
  assertEquals(choices[0]!.message.content, "I will look.");
  assertEquals(ofType(choices[0]!.message.tool_calls, "function").function.parsed_arguments, {
    city: "Rome",
  });
  assertEquals([deltas.join(""), deltas.length > 2], ['{"city": "Rome"}', true]);
});

for (const stream of [false, true]) {
  Deno.test(
    `OpenAI.chat.completions.runTools() goes through to the answer, stream ${stream}`,
    needed,
    async () => {
      const body = { model: "scripted", messages, tools: [weather] };
      const runner = stream
        ? caller.chat.completions.runTools({ ...body, stream })
        : caller.chat.completions.runTools(body);
      assertEquals(await runner.finalContent(), "Sunny in Rome, 21 degrees.");
    },
  );
}

const Animal = z.object({ kind: z.enum(["fox", "bear"]), age: z.int().min(0).max(9), tame: z.boolean() });
const count = zodFunction({ name: "count", parameters: z.object({ legs: z.int().min(0).max(8) }) });

Deno.test("OpenAI.chat.completions.parse() gives what a schema asks for", needed, async () => {
  const response_format = zodResponseFormat(Animal, "animal");
  const { choices } = await client.chat.completions.parse({ model: NAME, messages, response_format });
  Animal.parse(choices[0]!.message.parsed);
  const stream = client.chat.completions.stream({ model: NAME, messages, response_format });
  Animal.parse((await stream.finalChatCompletion()).choices[0]!.message.parsed);
});

for (const tool_choice of ["required", { type: "function", function: { name: "count" } }] as const) {
  Deno.test(
    `OpenAI.chat.completions.parse() gives the call that ${JSON.stringify(tool_choice)} asks for`,
    needed,
    async () => {
      const body = { model: NAME, messages, tools: [count], tool_choice, parallel_tool_calls: false };
      const { choices } = await client.chat.completions.parse(body);
      const call = ofType(choices[0]!.message.tool_calls, "function").function;
      assertEquals(call.name, "count");
      assert((call.parsed_arguments as { legs: number }).legs <= 8);
    },
  );
}

const RESPONSE = { model: NAME, input: "Tell me a story", max_output_tokens: 24, temperature: 0 };

Deno.test("OpenAI.responses.create() answers, and goes on", needed, async () => {
  const first = await client.responses.create(RESPONSE);
  assert(first.output_text.length > 0);
  assertEquals(first.usage?.output_tokens, 24);
  const second = await client.responses.create({ ...RESPONSE, previous_response_id: first.id });
  assert(second.usage!.input_tokens > first.usage!.input_tokens + 24);
  assertEquals((await client.responses.retrieve(first.id)).output_text, first.output_text);
  await client.responses.delete(first.id);
  await assertRejects(() => client.responses.retrieve(first.id), OpenAI.NotFoundError);
});

Deno.test("OpenAI.responses.stream() puts the same response together", needed, async () => {
  const whole = await client.responses.create(RESPONSE);
  const stream = client.responses.stream(RESPONSE);
  let text = "";
  stream.on("response.output_text.delta", ({ delta }) => text += delta);
  const final = await stream.finalResponse();
  assertEquals([text, final.output_text], [whole.output_text, whole.output_text]);
  assertEquals([final.status, final.usage], [whole.status, whole.usage]);
});

Deno.test("OpenAI.responses.parse() gives what a schema asks for", needed, async () => {
  const text = { format: zodTextFormat(Animal, "animal") };
  Animal.parse((await client.responses.parse({ model: NAME, input: "A fox?", text })).output_parsed);
});

Deno.test("OpenAI.responses.create() asks for a call, and takes its result", needed, async () => {
  const first = await caller.responses.create({ model: "scripted", input: messages, tools: [functionTool] });
  const call = ofType(first.output, "function_call");
  assertEquals([call.name, call.arguments], [name, '{"city": "Rome"}']);
  const output = { type: "function_call_output" as const, call_id: call.call_id, output: "sunny" };
  const input = [...messages, ...first.output, output] as OpenAI.Responses.ResponseInput;
  for (const body of [{ input }, { input: [output], previous_response_id: first.id }]) {
    const second = await caller.responses.create({ model: "scripted", tools: [functionTool], ...body });
    assertEquals(second.output_text, "Sunny in Rome, 21 degrees.");
  }
});

Deno.test("OpenAI.responses.stream() tells of a call's arguments", needed, async () => {
  const stream = caller.responses.stream({ model: "scripted", input: messages, tools: [functionTool] });
  let json = "";
  stream.on("response.function_call_arguments.delta", ({ delta }) => json += delta);
  const { output } = await stream.finalResponse();
  assertEquals(json, '{"city": "Rome"}');
  assertEquals(output.map((item) => item.type), ["message", "function_call"]);
});
