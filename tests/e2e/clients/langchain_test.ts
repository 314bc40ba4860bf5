import { type AIMessageChunk, HumanMessage, SystemMessage, type ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { assert, assertEquals } from "@std/assert";
import { z } from "zod";
import {
  type Address,
  CANNOT_CHAT,
  NAME,
  startReal,
  startScripted,
  WEATHER,
  weatherScript,
} from "./servers.ts";

let real: Address, scripted: Address;
Deno.test.beforeAll(async () => {
  if (CANNOT_CHAT) return;
  [real, scripted] = [await startReal(), await startScripted(weatherScript)];
});
Deno.test.afterAll(async () => {
  await real?.[Symbol.asyncDispose]();
  await scripted?.[Symbol.asyncDispose]();
});

function chat({ url }: Address, model: string) {
  const configuration = { baseURL: `${url}/v1` };
  return new ChatOpenAI({
    model,
    apiKey: "none",
    configuration,
    maxTokens: 24,
    temperature: 0,
    maxRetries: 0,
  });
}

const needed = { ignore: CANNOT_CHAT };
const messages = [new SystemMessage("Be kind."), new HumanMessage("What is the weather in Rome?")];
const weather = tool(() => JSON.stringify(WEATHER), {
  name: "weather",
  description: "Tells the weather",
  schema: z.object({ city: z.string() }),
});

Deno.test("ChatOpenAI.invoke() and ChatOpenAI.stream() answer the same", needed, async () => {
  const model = chat(real, NAME);
  const whole = await model.invoke(messages);
  assert(whole.text.length > 0);
  let text = "";
  for await (const chunk of await model.stream(messages)) text += chunk.text;
  assertEquals(text, whole.text);
  assertEquals((whole.usage_metadata as { output_tokens: number } | undefined)?.output_tokens, 24);
});

Deno.test("ChatOpenAI.bindTools() asks for a call, and takes its result", needed, async () => {
  const model = chat(scripted, "scripted").bindTools([weather]);
  const first = await model.invoke(messages);
  const [call] = first.tool_calls!;
  assertEquals([call!.name, call!.args], ["weather", { city: "Rome" }]);
  const result = await weather.invoke(call!) as unknown as ToolMessage;
  const second = await model.invoke([...messages, first, result]);
  assertEquals(second.text, "Sunny in Rome, 21 degrees.");
});

Deno.test("ChatOpenAI.stream() puts a call together", needed, async () => {
  let whole: AIMessageChunk | null = null;
  for await (const chunk of await chat(scripted, "scripted").bindTools([weather]).stream(messages)) {
    whole = whole === null ? chunk : whole.concat(chunk);
  }
  assertEquals(whole!.tool_calls!.map(({ name, args }) => [name, args]), [["weather", { city: "Rome" }]]);
});

for (const method of ["jsonSchema", "functionCalling"] as const) {
  Deno.test(
    `ChatOpenAI.withStructuredOutput() gives what a schema asks for, by ${method}`,
    needed,
    async () => {
      const schema = z.object({ kind: z.enum(["fox", "bear"]), age: z.int().min(0).max(9) });
      const model = new ChatOpenAI({
        model: NAME,
        apiKey: "none",
        configuration: { baseURL: `${real.url}/v1` },
        maxRetries: 0,
      });
      schema.parse(await model.withStructuredOutput(schema, { name: "animal", method }).invoke(messages));
    },
  );
}
