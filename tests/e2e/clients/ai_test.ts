import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { assert, assertEquals } from "@std/assert";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
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

function model({ url }: Address, name: string) {
  const options = { includeUsage: true, supportsStructuredOutputs: true };
  return createOpenAICompatible({ name: "kvrm", baseURL: `${url}/v1`, ...options })(name);
}

const needed = { ignore: CANNOT_CHAT };
const prompt = "What is the weather in Rome?";
const tools = {
  weather: tool({
    description: "Tells the weather",
    inputSchema: z.object({ city: z.string() }),
    execute: () => WEATHER,
  }),
};

Deno.test("ai.generateText() and ai.streamText() answer the same", needed, async () => {
  const body = { model: model(real, NAME), prompt, maxOutputTokens: 24, temperature: 0, maxRetries: 0 };
  const { text, usage, finishReason } = await generateText(body);
  assert(text.length > 0);
  assert(["stop", "length"].includes(finishReason));
  const stream = streamText(body);
  assertEquals(await stream.text, text);
  assertEquals((await stream.usage).outputTokens, usage.outputTokens);
});

Deno.test("ai.generateText() goes through a call to the answer, thoughts apart", needed, async () => {
  const { text, steps, reasoningText } = await generateText({
    model: model(scripted, "scripted"),
    prompt,
    tools,
    stopWhen: stepCountIs(3),
    maxRetries: 0,
  });
  assertEquals([text, reasoningText], ["Sunny in Rome, 21 degrees.", "It is 21 degrees."]);
  assertEquals(steps.map(({ finishReason }) => finishReason), ["tool-calls", "stop"]);
  assertEquals(steps[0]!.toolCalls[0]!.input, { city: "Rome" });
});

Deno.test("ai.streamText() goes through a call to the answer, thoughts apart", needed, async () => {
  const stream = streamText({
    model: model(scripted, "scripted"),
    prompt,
    tools,
    stopWhen: stepCountIs(3),
    maxRetries: 0,
  });
  assertEquals(await stream.text, "Sunny in Rome, 21 degrees.");
  assertEquals(await stream.reasoningText, "It is 21 degrees.");
  assertEquals((await stream.steps)[0]!.toolResults[0]!.output, WEATHER);
});

Deno.test("ai.generateText() gives the object that a schema asks for", needed, async () => {
  const schema = z.object({ kind: z.enum(["fox", "bear"]), age: z.int().min(0).max(9) });
  const { output } = await generateText({
    model: model(real, NAME),
    prompt,
    output: Output.object({ schema }),
    maxRetries: 0,
  });
  schema.parse(output);
});

Deno.test("ai.generateText() of a tool that is asked for calls it", needed, async () => {
  const legs = tool({ inputSchema: z.object({ legs: z.int().min(0).max(8) }), execute: ({ legs }) => legs });
  const { toolResults } = await generateText({
    model: model(real, NAME),
    prompt,
    tools: { legs },
    toolChoice: { type: "tool", toolName: "legs" },
    maxRetries: 0,
  });
  assert(Number(toolResults[0]!.output) <= 8);
});
