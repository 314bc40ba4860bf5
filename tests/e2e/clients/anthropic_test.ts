import Anthropic from "@anthropic-ai/sdk";
import { assert, assertEquals, assertRejects } from "@std/assert";
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
let client: Anthropic, caller: Anthropic;
Deno.test.beforeAll(async () => {
  if (CANNOT_CHAT) return;
  [real, scripted] = [await startReal(), await startScripted(weatherScript)];
  client = new Anthropic({ apiKey: "none", maxRetries: 0, baseURL: real.url });
  caller = new Anthropic({ apiKey: "none", maxRetries: 0, baseURL: scripted.url });
});
Deno.test.afterAll(async () => {
  await real?.[Symbol.asyncDispose]();
  await scripted?.[Symbol.asyncDispose]();
});

const needed = { ignore: CANNOT_CHAT };
const messages = [{ role: "user" as const, content: "What is the weather in Rome?" }];
const tools: Anthropic.Tool[] = [{
  name: "weather",
  description: "Tells the weather",
  input_schema: { type: "object", properties: { city: { type: "string" } } },
}];
const BODY = { model: NAME, messages, max_tokens: 24, top_k: 1 };
const CALL = { model: "scripted", messages, max_tokens: 999, tools };

Deno.test("Anthropic.messages.create() answers", needed, async () => {
  const message = await client.messages.create({ ...BODY, system: "Be kind." });
  assert(ofType(message.content, "text").text.length > 0);
  assert(["end_turn", "max_tokens"].includes(message.stop_reason!));
  const { input_tokens } = await client.messages.countTokens({ model: NAME, messages, system: "Be kind." });
  const { usage } = message;
  assertEquals(usage.input_tokens + usage.cache_read_input_tokens!, input_tokens);
});

Deno.test("Anthropic.messages.stream() puts the same message together", needed, async () => {
  const whole = await client.messages.create(BODY);
  const stream = client.messages.stream(BODY);
  let text = "";
  stream.on("text", (delta) => text += delta);
  const final = await stream.finalMessage();
  assertEquals(final.content, whole.content);
  assertEquals([text, final.stop_reason], [await stream.finalText(), whole.stop_reason]);
  assertEquals(final.usage.output_tokens, whole.usage.output_tokens);
});

Deno.test("Anthropic.messages.create() goes on with what the assistant began", needed, async () => {
  const begun = [...messages, { role: "assistant" as const, content: "Once upon a time" }];
  const { content } = await client.messages.create({ ...BODY, messages: begun });
  assert(ofType(content, "text").text.length > 0);
});

Deno.test("Anthropic.messages.create() asks for a call, and takes its result", needed, async () => {
  const first = await caller.messages.create(CALL);
  assertEquals(first.stop_reason, "tool_use");
  const use = ofType(first.content, "tool_use");
  assertEquals([use.name, use.input], ["weather", { city: "Rome" }]);
  const result = { type: "tool_result" as const, tool_use_id: use.id, content: JSON.stringify(WEATHER) };
  const second = await caller.messages.create({
    ...CALL,
    messages: [...messages, { role: "assistant", content: first.content }, {
      role: "user",
      content: [result],
    }],
  });
  const said = [ofType(second.content, "thinking").thinking, ofType(second.content, "text").text];
  assertEquals(said, ["It is 21 degrees.", "Sunny in Rome, 21 degrees."]);
});

Deno.test("Anthropic.messages.stream() puts a call together", needed, async () => {
  const stream = caller.messages.stream(CALL);
  const pieces: string[] = [];
  stream.on("inputJson", (piece) => pieces.push(piece));
  const { content } = await stream.finalMessage();
  assertEquals(content.map(({ type }) => type), ["text", "tool_use"]);
  assertEquals([pieces.join(""), ofType(content, "tool_use").input], ['{"city": "Rome"}', { city: "Rome" }]);
});

Deno.test(
  "Anthropic.messages.create() of a named tool gives input that its schema allows",
  needed,
  async () => {
    const legs = { type: "integer", minimum: 0, maximum: 8 };
    const { content, stop_reason } = await client.messages.create({
      ...BODY,
      max_tokens: 99,
      tools: [{
        name: "count",
        input_schema: {
          type: "object",
          properties: { legs },
          required: ["legs"],
          additionalProperties: false,
        },
      }],
      tool_choice: { type: "tool", name: "count" },
    });
    const use = ofType(content, "tool_use");
    assertEquals([use.name, Object.keys(use.input as object), stop_reason], ["count", ["legs"], "tool_use"]);
  },
);

Deno.test(
  "Anthropic.messages.create() rejects with the class that the status stands for",
  needed,
  async () => {
    await assertRejects(() => client.messages.create({ ...BODY, model: "claude" }), Anthropic.NotFoundError);
    const error = await assertRejects(
      () => client.messages.create({ ...BODY, max_tokens: 0 }),
      Anthropic.BadRequestError,
      "max_tokens is 0",
    );
    assertEquals(error.type, "invalid_request_error");
  },
);
