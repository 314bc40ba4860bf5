import { assertEquals } from "@std/assert";
import config from "../../deno.json" with { type: "json" };
import { CANNOT_CHAT, CANNOT_RUN, type Service, startService } from "./service.ts";

let service: Service;
Deno.test.beforeAll(async () => {
  if (!CANNOT_RUN) service = await startService({ slots: 1 });
});
Deno.test.afterAll(async () => await service?.[Symbol.asyncDispose]());

// deno-lint-ignore no-explicit-any
async function ask(path: string, body: unknown): Promise<any> {
  const response = await service.post(path, body);
  const answer = await response.json();
  return response.status === 200 ? answer : { status: response.status, ...answer.error };
}

const needed = { ignore: CANNOT_RUN };

Deno.test("POST /tokenize gives the ids of a text, with or without special tokens", needed, async () => {
  const { engine } = service;
  const prompt = "Once upon a time, dear ☃";
  const answer = await ask("/tokenize", { prompt, return_token_strs: true });
  assertEquals(answer.tokens, engine.encode(prompt));
  assertEquals([answer.count, answer.max_model_len], [answer.tokens.length, engine.model.maxContext]);
  assertEquals(answer.token_strs.length, answer.count);
  const bare = await ask("/tokenize", { prompt, add_special_tokens: false });
  assertEquals(bare.tokens, engine.encode(prompt, { addSpecialTokens: false }));
  assertEquals(bare.token_strs, null);
  assertEquals((await ask("/detokenize", { tokens: bare.tokens })).prompt, prompt);
});

Deno.test("POST /tokenize gives the ids that a chat would have", { ignore: CANNOT_CHAT }, async () => {
  const messages = [{ role: "user", content: "Hi" }];
  const { tokens } = await ask("/tokenize", { messages });
  const rendered = service.engine.renderChat(messages);
  assertEquals(tokens, service.engine.encode(rendered, { addSpecialTokens: false }));
  const { prompt } = await ask("/detokenize", { tokens });
  assertEquals(prompt, rendered);
});

Deno.test("POST /tokenize and /detokenize refuse what they cannot read, by name", needed, async () => {
  for (
    const [path, body, param] of [
      ["/tokenize", {}, "prompt"],
      ["/tokenize", { prompt: "a", messages: [{ role: "user", content: "b" }] }, "prompt"],
      ["/detokenize", { tokens: [1, -1] }, "tokens[1]"],
      ["/detokenize", { tokens: [service.engine.model.vocabSize] }, "tokens[0]"],
      ["/detokenize", {}, "tokens"],
    ] as const
  ) {
    const error = await ask(path, body);
    assertEquals([error.status, error.param], [400, param]);
  }
});

Deno.test("GET /version names the version and the backend", needed, async () => {
  const answer = await (await fetch(`${service.url}/version`)).json();
  assertEquals(answer, { version: config.version, backend: service.engine.backend });
});
