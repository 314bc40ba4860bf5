import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { createApp } from "../../api/app.ts";
import { chatMessages } from "../../api/messages/input.ts";
import { type Script, scriptedEngine } from "./scripted_engine.ts";

const tools = [{ name: "weather", description: "Tells", input_schema: { type: "object" } }];
const messages = [{ role: "user", content: "Weather?" }];
const CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>';

async function service(script: Script) {
  const engine = await scriptedEngine("qwen", script);
  const app = createApp(engine);
  const post = (body: Record<string, unknown>, path = "/v1/messages") =>
    app.request(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ messages, max_tokens: 99, ...body }),
    });
  return {
    app,
    engine,
    post,
    // deno-lint-ignore no-explicit-any
    async create(body: Record<string, unknown> = {}): Promise<any> {
      const response = await post(body);
      const answer = await response.json();
      assertEquals(response.status, 200, JSON.stringify(answer));
      return answer;
    },
    // deno-lint-ignore no-explicit-any
    async stream(body: Record<string, unknown> = {}): Promise<any[]> {
      const text = await (await post({ ...body, stream: true })).text();
      return text.split("\n\n").slice(0, -1).map((event) => {
        const [name, data] = event.split("\n");
        const value = JSON.parse(data!.slice("data: ".length));
        assertEquals(name, `event: ${value.type}`);
        return value;
      });
    },
  };
}

Deno.test("POST /v1/messages answers with thoughts, text and calls as blocks", async () => {
  const { create, engine } = await service(() => `<think>Hm.</think>I look. ${CALL}`);
  const answer = await create({ tools, system: [{ type: "text", text: "Be brief." }] });
  assertEquals([answer.type, answer.role, answer.stop_reason], ["message", "assistant", "tool_use"]);
  const [thinking, text, call] = answer.content;
  assertEquals([thinking.thinking, text], ["Hm.", { type: "text", text: "I look." }]);
  assertEquals([call.type, call.name, call.input], ["tool_use", "weather", { city: "Rome" }]);
  assertEquals(answer.usage.input_tokens, engine.prompts[0]!.length);
  for (const wanted of ["Be brief.", '"name": "weather"']) assertStringIncludes(engine.prompts[0]!, wanted);
});

Deno.test("POST /v1/messages streams blocks one after another, and what they sum up to", async () => {
  const { stream, create } = await service(() => `<think>Hm, well.</think>I look. ${CALL}`);
  const events = await stream({ tools });
  const wanted = await create({ tools });
  assertEquals(events.slice(0, 2).map(({ type }) => type), ["message_start", "ping"]);
  assertEquals([events[0].message.content, events[0].message.stop_reason], [[], null]);
  const field: Record<string, string> = { thinking: "thinking", text: "text", tool_use: "partial_json" };
  for (const [index, block] of wanted.content.entries()) {
    const own = events.filter((event) => event.index === index);
    assertEquals(own[0].type, "content_block_start");
    assertEquals(own.at(-1).type, "content_block_stop");
    const all = own.slice(1, -1).map(({ delta }) => delta[field[block.type]!]).join("");
    assertEquals(block.type === "tool_use" ? JSON.parse(all) : all, block.input ?? block[block.type]);
  }
  assertEquals(events.at(-2).delta, { stop_reason: "tool_use", stop_sequence: null });
  assertEquals(events.at(-2).usage, wanted.usage);
  assertEquals(events.at(-1), { type: "message_stop" });
});

Deno.test("POST /v1/messages says why it ended", async () => {
  const { create } = await service((prompt) =>
    prompt.includes("long") ? ["Once", "length"] : "One, two, three"
  );
  assertEquals((await create()).stop_reason, "end_turn");
  const stopped = await create({ stop_sequences: [", three", "x"] });
  assertEquals([stopped.stop_reason, stopped.stop_sequence], ["stop_sequence", ", three"]);
  assertEquals(stopped.content, [{ type: "text", text: "One, two" }]);
  const cut = await create({ messages: [{ role: "user", content: "long" }] });
  assertEquals([cut.stop_reason, cut.stop_sequence], ["max_tokens", null]);
});

Deno.test("POST /v1/messages begins with a call where one is asked for", async () => {
  const { create, engine } = await service((prompt) =>
    prompt.endsWith('"arguments":') ? ' {"city": "Oslo"}}\n</tool_call>' : "Hello"
  );
  for (const tool_choice of [{ type: "any" }, { type: "tool", name: "weather" }]) {
    const { content } = await create({ tools, tool_choice });
    assertEquals([content.length, content[0].input], [1, { city: "Oslo" }]);
  }
  await create({ tools, tool_choice: { type: "none" } });
  assertEquals(engine.prompts.at(-1)!.includes("weather"), false);
});

Deno.test("POST /v1/messages keeps an input that is no JSON object", async () => {
  const { create } = await service(() => ['<tool_call>{"name": "weather", "arguments": {"ci', "length"]);
  const { content, stop_reason } = await create({ tools });
  assertEquals([content[0].input, stop_reason], [{ invalid_json: '{"ci' }, "max_tokens"]);
});

Deno.test("POST /v1/messages goes on with a last message of the assistant, and switches thoughts", async () => {
  const { create, engine } = await service(() => " time.");
  const turns = [...messages, { role: "assistant", content: "Once upon a" }];
  assertEquals((await create({ messages: turns })).content, [{ type: "text", text: " time." }]);
  assert(engine.prompts[0]!.endsWith("Once upon a"));
  await create({ thinking: { type: "disabled" } });
  assert(engine.prompts[1]!.endsWith("<think>\n\n</think>\n\n"));
});

Deno.test("POST /v1/messages answers errors in Anthropic's shape, streamed or not", async () => {
  const { post, app, stream } = await service(() => ["Once", "cancelled"]);
  for (
    const [response, status, type] of [
      [await post({ max_tokens: 0 }), 400, "invalid_request_error"],
      [
        await post({ messages: [{ role: "user", content: [{ type: "image" }] }] }),
        400,
        "invalid_request_error",
      ],
      [await post({ tool_choice: { type: "any" } }), 400, "invalid_request_error"],
      [await post({ model: "claude" }), 404, "not_found_error"],
      [await app.request("/v1/messages"), 405, "invalid_request_error"],
      [await app.request("/v1/messages/batches"), 404, "not_found_error"],
      [await post({}), 503, "overloaded_error"],
    ] as const
  ) {
    const body = await response.json();
    assertEquals(
      [response.status, body.type, body.error.type],
      [status, "error", type],
      JSON.stringify(body),
    );
    assertEquals(body.request_id, response.headers.get("x-request-id"));
  }
  const { type, error } = (await stream()).at(-1);
  assertEquals([type, error.type], ["error", "overloaded_error"]);
});

Deno.test("POST /v1/messages/count_tokens counts what a message would", async () => {
  const { post, create } = await service(() => "Hello");
  const body = { tools, system: "Be brief." };
  const { input_tokens } = await (await post({ ...body, max_tokens: undefined }, "/v1/messages/count_tokens"))
    .json();
  assertEquals(input_tokens, (await create(body)).usage.input_tokens);
});

Deno.test("chatMessages() makes turns of results, before the user's words", () => {
  const result = {
    type: "tool_result" as const,
    tool_use_id: "t1",
    content: [{ type: "text" as const, text: "Sunny" }],
  };
  const tool = { role: "tool", content: "Sunny", tool_call_id: "t1" };
  assertEquals(chatMessages({ role: "user", content: [result] }), [tool]);
  const words = { type: "text" as const, text: "And?" };
  assertEquals(chatMessages({ role: "user", content: [result, words] }), [tool, {
    role: "user",
    content: "And?",
  }]);
  const call = { type: "tool_use" as const, id: "t1", name: "weather", input: { city: "Rome" } };
  const [turn] = chatMessages({
    role: "assistant",
    content: [{ type: "thinking", thinking: "Hm." }, words, call],
  });
  assertEquals(turn, {
    role: "assistant",
    content: "And?",
    reasoning_content: "Hm.",
    tool_calls: [{ id: "t1", type: "function", function: { name: "weather", arguments: '{"city":"Rome"}' } }],
  });
});
