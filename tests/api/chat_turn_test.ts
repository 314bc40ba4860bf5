import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { createApp } from "../../api/app.ts";
import { type Script, scriptedEngine } from "./scripted_engine.ts";

const tools = [
  {
    type: "function",
    function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } },
  },
  { type: "function", function: { name: "time" } },
];
const messages = [{ role: "user", content: "Weather in Rome?" }];
const CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>';

async function service(template: string, script: Script) {
  const engine = await scriptedEngine(template, script);
  const app = createApp(engine);
  const post = (body: Record<string, unknown>) =>
    app.request("/v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ messages, ...body }),
    });
  return {
    engine,
    post,
    // deno-lint-ignore no-explicit-any
    async chat(body: Record<string, unknown>): Promise<any> {
      const response = await post(body);
      const answer = await response.json();
      assertEquals(response.status, 200, JSON.stringify(answer));
      return answer.choices[0];
    },
    // deno-lint-ignore no-explicit-any
    async stream(body: Record<string, unknown>): Promise<any[]> {
      const text = await (await post({ ...body, stream: true })).text();
      return text.split("\n\n").slice(0, -2).map((line) => JSON.parse(line.slice(6)).choices[0]);
    },
  };
}

Deno.test("POST /v1/chat/completions answers with calls", async () => {
  const { chat, engine } = await service("qwen", () => `I look.\n${CALL}\n${CALL}`);
  const { message, finish_reason } = await chat({ tools });
  assertEquals([message.content, finish_reason], ["I look.", "tool_calls"]);
  for (const { id, ...call } of message.tool_calls) {
    assertStringIncludes(id, "call_");
    assertEquals(call, { type: "function", function: { name: "weather", arguments: '{"city": "Rome"}' } });
  }
  assertEquals(message.tool_calls.length, 2);
  assertStringIncludes(engine.prompts[0]!, '"name": "weather"');
  assertEquals((await chat({ tools, parallel_tool_calls: false })).message.tool_calls.length, 1);
});

Deno.test("POST /v1/chat/completions streams calls: the name first, then the arguments as they come", async () => {
  const { stream } = await service("qwen", () => CALL);
  for (const n of [1, 2]) {
    const choices = (await stream({ tools, n })).filter(({ index }) => index === n - 1);
    assertEquals(choices[0].delta, { role: "assistant", content: "" });
    const calls = choices.flatMap(({ delta }) => delta.tool_calls ?? []);
    assertEquals([calls[0].index, calls[0].type, calls[0].function.name], [0, "function", "weather"]);
    assert(calls.length > 4);
    assert(calls.slice(1).every(({ id, function: { name } }) => id === undefined && name === undefined));
    assertEquals(calls.map((call) => call.function.arguments).join(""), '{"city": "Rome"}');
    assertEquals(choices.at(-1).finish_reason, "tool_calls");
    assert(choices.slice(0, -1).every((choice) => choice.finish_reason === null));
  }
});

Deno.test("POST /v1/chat/completions begins the turn with a call where one is asked for", async () => {
  const { chat, engine } = await service(
    "qwen",
    (prompt) =>
      prompt.endsWith('<tool_call>\n{"name": "weather", "arguments":')
        ? ' {"city": "Oslo"}}\n</tool_call>, and more'
        : prompt.endsWith('<tool_call>\n{"name":')
        ? ' "time", "arguments": {}}\n</tool_call>'
        : "No call.",
  );
  const named = { type: "function", function: { name: "weather" } };
  const { message, finish_reason } = await chat({ tools, tool_choice: named });
  assertEquals(message.tool_calls.map((call: { function: unknown }) => call.function), [
    { name: "weather", arguments: '{"city": "Oslo"}' },
  ]);
  assertEquals([message.content, finish_reason], [null, "tool_calls"]);
  const required = await chat({ tools, tool_choice: "required" });
  assertEquals(required.message.tool_calls[0].function, { name: "time", arguments: "{}" });
  const none = await chat({ tools, tool_choice: "none" });
  assertEquals([none.message.content, none.finish_reason], ["No call.", "stop"]);
  assertEquals(engine.prompts.at(-1)!.includes("weather"), false);
});

Deno.test("POST /v1/chat/completions keeps special tokens for formats that are made of them", async () => {
  let skip: boolean | undefined;
  const { chat } = await service("mistral", (_prompt, request) => {
    skip = request.skipSpecialTokens;
    return '[TOOL_CALLS] [{"name": "time", "arguments": {}}]';
  });
  const { message } = await chat({ tools });
  assertEquals([message.tool_calls[0].function.name, skip], ["time", false]);
  const result = { role: "tool", content: "12:00", tool_call_id: message.tool_calls[0].id };
  await chat({ tools, messages: [...messages, message, result] });
});

Deno.test("POST /v1/chat/completions takes the answers of tools where the template knows none", async () => {
  const { chat, engine } = await service("chatml", () => CALL);
  const { message } = await chat({ tools });
  const result = { role: "tool", content: "Sunny", tool_call_id: message.tool_calls[0].id };
  await chat({ tools, messages: [...messages, message, result] });
  const prompt = engine.prompts.at(-1)!;
  for (
    const text of ["<tools>", '{"name":"weather","arguments":{"city":"Rome"}}', "<tool_response>\nSunny\n"]
  ) {
    assertStringIncludes(prompt, text);
  }
});

Deno.test("POST /v1/chat/completions refuses tools where nobody knows how the model calls them", async () => {
  const { post } = await service("named", () => "");
  const response = await post({ tools });
  const { error } = await response.json();
  assertEquals([response.status, error.param], [400, "tools"]);
  assertEquals((await post({ tools, tool_choice: "none" })).status, 200);
});

Deno.test("POST /v1/chat/completions tells thoughts from the answer", async () => {
  const { chat, stream } = await service("qwen", () => "<think>\nHm.\n</think>\n\nYes.");
  const { message } = await chat({});
  assertEquals([message.reasoning_content, message.content], ["Hm.", "Yes."]);
  assertEquals((await chat({ include_reasoning: false })).message, {
    role: "assistant",
    content: "Yes.",
    refusal: null,
  });
  assertStringIncludes((await chat({ reasoning_format: "none" })).message.content, "<think>");
  const deltas = (await stream({})).map(({ delta }) => delta);
  assertEquals(deltas.map((delta) => delta.reasoning_content ?? "").join(""), "Hm.");
  assertEquals(deltas.map((delta) => delta.content ?? "").join(""), "Yes.");
});

Deno.test("POST /v1/chat/completions gives the probability of every token of a turn, once", async () => {
  const { chat, stream } = await service("qwen", () => `<think>Hm.</think>${CALL}`);
  const body = { tools, logprobs: true };
  const wanted = (await chat(body)).logprobs.content;
  const got = (await stream(body)).flatMap(({ logprobs }) => logprobs?.content ?? []);
  assertEquals(got, wanted);
});

Deno.test("POST /v1/chat/completions goes on with the last message", async () => {
  const { chat, engine } = await service("qwen", () => " time.");
  const turns = [...messages, { role: "assistant", content: "Once upon a" }];
  const { message } = await chat({ messages: turns, continue_final_message: true });
  assertEquals(message.content, " time.");
  assert(engine.prompts[0]!.endsWith("Once upon a"));
  await chat({ chat_template_kwargs: { enable_thinking: false } });
  assert(engine.prompts[1]!.endsWith("</think>\n\n"));
});

const THINKS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}" +
  "{% if add_generation_prompt %}<assistant><think>\n{% endif %}";

Deno.test("POST /v1/chat/completions starts within thoughts that the prompt has opened", async () => {
  const { chat, engine } = await service(
    THINKS,
    (prompt) => prompt.endsWith('"arguments":') ? ' {"city": "Oslo"}}' : "Hm.\n</think>\n\nYes.",
  );
  const { message } = await chat({});
  assertEquals([message.reasoning_content, message.content], ["Hm.", "Yes."]);
  const cut = await service(THINKS, () => ["Hm, so", "length"]);
  assertEquals((await cut.chat({})).message.content, "");
  // A call that is asked for is no thought.
  const named = { type: "function", function: { name: "weather" } };
  const called = await chat({ tools, tool_choice: named });
  assertEquals(called.message.tool_calls[0].function.arguments, '{"city": "Oslo"}');
  assertStringIncludes(engine.prompts.at(-1)!, "<think>\n\n</think>\n\n<tool_call>");
});

Deno.test("POST /v1/chat/completions lets the user tell of tools where the template knows no system", async () => {
  const refuses = "{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}";
  const template = `{% for m in messages %}${refuses}<{{ m.role }}>{{ m.content }}{% endfor %}`;
  const { chat, engine, post } = await service(template, () => CALL);
  const { message } = await chat({ tools });
  assertEquals(message.tool_calls.length, 1);
  assertStringIncludes(engine.prompts[0]!, "<user>You may call these functions");
  const refused = await post({ tools, messages: [{ role: "system", content: "Hi" }, ...messages] });
  assertEquals(refused.status, 400);
});
