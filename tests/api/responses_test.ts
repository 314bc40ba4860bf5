import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { createApp } from "../../api/app.ts";
import { inputMessages } from "../../api/responses/input.ts";
import { ResponseStore } from "../../api/responses/store.ts";
import { type Script, scriptedEngine } from "./scripted_engine.ts";

const tools = [{ type: "function", name: "weather", parameters: { type: "object" }, strict: true }];
const CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>';

async function service(script: Script) {
  const engine = await scriptedEngine("qwen", script);
  const app = createApp(engine);
  const post = (body: Record<string, unknown>) =>
    app.request("/v1/responses", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ input: "Weather?", ...body }),
    });
  return {
    app,
    engine,
    post,
    // deno-lint-ignore no-explicit-any
    async respond(body: Record<string, unknown> = {}): Promise<any> {
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

Deno.test("POST /v1/responses answers with thoughts, text and calls as items", async () => {
  const { respond } = await service(() => `<think>Hm.</think>I look. ${CALL}`);
  const answer = await respond({ tools, metadata: { a: "b" } });
  assertEquals([answer.object, answer.status, answer.error], ["response", "completed", null]);
  assertEquals(answer.metadata, { a: "b" });
  const [reasoning, message, call] = answer.output;
  assertEquals(reasoning.content, [{ type: "reasoning_text", text: "Hm." }]);
  assertEquals(message.content, [{ type: "output_text", text: "I look.", annotations: [], logprobs: [] }]);
  assertEquals([call.name, call.arguments, call.status], ["weather", '{"city": "Rome"}', "completed"]);
  assertEquals(answer.usage.output_tokens_details.reasoning_tokens, 3);
  assertEquals(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens);
});

Deno.test("POST /v1/responses streams events whose numbers, places and sums agree", async () => {
  const { stream } = await service(() => `<think>Hm, well.</think>I look. ${CALL}`);
  const events = await stream({ tools });
  assertEquals(events.map((event) => event.sequence_number), events.map((_, i) => i));
  assertEquals(events.slice(0, 2).map(({ type }) => type), ["response.created", "response.in_progress"]);
  const { response } = events.at(-1);
  assertEquals([events.at(-1).type, response.status], ["response.completed", "completed"]);
  for (const [index, item] of response.output.entries()) {
    const own = events.filter((event) => event.output_index === index);
    assertEquals(own[0].type, "response.output_item.added");
    assertEquals([own.at(-1).type, own.at(-1).item], ["response.output_item.done", item]);
    const text = own.map((event) => event.delta ?? "").join("");
    assertEquals(text, item.type === "function_call" ? item.arguments : item.content[0].text);
    assert(own.slice(1, -1).every((event) => event.item_id === item.id));
    const kinds = own.map(({ type }) => type.replace("response.", ""));
    if (item.type === "function_call") assert(kinds.includes("function_call_arguments.done"));
    else {
      const prefix = item.type === "message" ? "output_text" : "reasoning_text";
      assertEquals(kinds.slice(0, 3), ["output_item.added", "content_part.added", `${prefix}.delta`]);
      assertEquals(kinds.slice(-3), [`${prefix}.done`, "content_part.done", "output_item.done"]);
    }
  }
});

Deno.test("POST /v1/responses is incomplete where its length has cut it off", async () => {
  const { respond, stream } = await service(() => ["Once upon", "length"]);
  const answer = await respond();
  assertEquals([answer.status, answer.incomplete_details.reason], ["incomplete", "max_output_tokens"]);
  assertEquals(answer.output[0].status, "incomplete");
  assertEquals((await stream()).at(-1).type, "response.incomplete");
});

Deno.test("POST /v1/responses fails with an event that says why", async () => {
  const { stream } = await service(() => ["Once", "cancelled"]);
  const { type, response } = (await stream()).at(-1);
  assertEquals([type, response.status, response.error.code], ["response.failed", "failed", "closed"]);
});

Deno.test("POST /v1/responses goes on with a response that was stored", async () => {
  const { respond, post, engine, app } = await service((prompt) =>
    prompt.includes("And") ? "Warm." : "Sunny."
  );
  const first = await respond({ instructions: "Be brief." });
  const second = await respond({ input: "And tomorrow?", previous_response_id: first.id });
  assertEquals(second.previous_response_id, first.id);
  const prompt = engine.prompts[1]!;
  for (const text of ["Weather?", "Sunny.", "And tomorrow?"]) assertStringIncludes(prompt, text);
  assertEquals(prompt.includes("Be brief."), false);
  assertEquals(await (await app.request(`/v1/responses/${first.id}`)).json(), first);

  const deleted = await app.request(`/v1/responses/${first.id}`, { method: "DELETE" });
  assertEquals(await deleted.json(), { id: first.id, object: "response", deleted: true });
  assertEquals((await app.request(`/v1/responses/${first.id}`)).status, 404);
  const unstored = await respond({ store: false });
  for (const id of [first.id, unstored.id]) {
    const response = await post({ previous_response_id: id });
    const { error } = await response.json();
    assertEquals([response.status, error.param], [400, "previous_response_id"]);
    assertEquals(error.code, "previous_response_not_found");
  }
});

Deno.test("POST /v1/responses gives log probabilities where they are included", async () => {
  const { respond, stream, post } = await service(() => "Sunny.");
  const body = { include: ["message.output_text.logprobs"], top_logprobs: 2 };
  const wanted = (await respond(body)).output[0].content[0].logprobs;
  assertEquals(wanted.length, 6);
  assertEquals((await stream(body)).flatMap((event) => event.delta ? event.logprobs : []), wanted);
  assertEquals((await post({ top_logprobs: 2 })).status, 400);
});

Deno.test("POST /v1/responses refuses what it does not have, by name", async () => {
  const { post } = await service(() => "");
  for (
    const [fields, param] of [
      [{ tools: [{ type: "web_search" }] }, "tools[0].type"],
      [{ background: true }, "background"],
      [{ truncation: "auto" }, "truncation"],
      [{ input: [] }, "input"],
      [{ input: [{ role: "user", content: [{ type: "input_image" }] }] }, "input"],
      [{ text: { format: { type: "xml" } } }, "text.format"],
      [{ tool_choice: "required" }, "tool_choice"],
    ] as const
  ) {
    const response = await post(fields);
    const { error } = await response.json();
    assertEquals(
      [response.status, String(error.param).startsWith(param)],
      [400, true],
      JSON.stringify(error),
    );
  }
});

Deno.test("inputMessages() makes one turn of the assistant's items", () => {
  const call = { type: "function_call" as const, call_id: "c1", name: "weather", arguments: "{}" };
  const messages = inputMessages([
    { role: "developer", content: "d" },
    { role: "user", content: [{ type: "input_text", text: "a" }, { type: "input_text", text: "b" }] },
    { type: "reasoning", summary: [], content: [{ text: "Hm." }] },
    { role: "assistant", content: [{ type: "output_text", text: "I look." }] },
    call,
    { ...call, call_id: "c2" },
    { type: "function_call_output", call_id: "c1", output: "Sunny" },
  ]);
  assertEquals(messages.map(({ role }) => role), ["system", "user", "assistant", "tool"]);
  assertEquals(messages[1]!.content, "a\nb");
  assertEquals([messages[2]!.content, messages[2]!["reasoning_content"]], ["I look.", "Hm."]);
  assertEquals((messages[2]!["tool_calls"] as { id: string }[]).map(({ id }) => id), ["c1", "c2"]);
  assertEquals(messages[3], { role: "tool", content: "Sunny", tool_call_id: "c1" });
});

Deno.test("ResponseStore.put() lets the oldest give way to number and to size", () => {
  const stored = (id: string, text = "") =>
    ({ response: { id, text }, messages: [] }) as unknown as Parameters<ResponseStore["put"]>[0];
  const store = new ResponseStore({ maxCount: 2, maxCharacters: 300 });
  for (const id of ["a", "b", "c"]) store.put(stored(id));
  assertEquals(["a", "b", "c"].map((id) => store.get(id) !== undefined), [false, true, true]);
  store.put(stored("d", "x".repeat(230)));
  assertEquals(["b", "c", "d"].map((id) => store.get(id) !== undefined), [false, false, true]);
  store.put(stored("e", "x".repeat(400)));
  assertEquals(["d", "e"].map((id) => store.get(id) !== undefined), [true, false]);
  assertEquals([store.delete("d"), store.delete("d")], [true, false]);
});
