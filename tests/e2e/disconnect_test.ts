import { assert, assertEquals } from "@std/assert";
import { atRest, CANNOT_RUN, promptOf, type Service, startService, until } from "./service.ts";

/** Far more work than the tests wait for: 128 choices on 2 slots. */
const LONG = { prompt: "Once upon a time", max_tokens: 400, n: 128, ignore_eos: true };

let service: Service;
Deno.test.beforeAll(async () => {
  if (!CANNOT_RUN) service = await startService({ slots: 2, prefixCache: false });
});
Deno.test.afterAll(async () => await service?.[Symbol.asyncDispose]());

function busy(): boolean {
  const { running, waiting } = service.engine.stats();
  return running + waiting > 0;
}

/** After a client has left: nothing runs or waits, no block is held, and little was computed in vain. */
async function assertFreed(generatedBefore: number) {
  await until(() => !busy(), "slots and queue are free");
  await until(() => service.engine.stats().blocks.active === 0, "blocks are free");
  const { blocks, generatedTokens } = service.engine.stats();
  assertEquals(blocks.free + blocks.cached, blocks.total);
  assert(generatedTokens - generatedBefore < 128 * 400 / 2, `${generatedTokens - generatedBefore} tokens`);
  await service.complete({ prompt: "One day", max_tokens: 2 });
}

const needed = { ignore: CANNOT_RUN };

Deno.test("createApp() frees slots and blocks when a stream's reader cancels it", needed, async () => {
  const before = service.engine.stats().generatedTokens;
  const response = await service.post("/v1/completions", { ...LONG, stream: true });
  const reader = response.body!.getReader();
  await reader.read();
  assert(busy());
  await reader.cancel();
  await assertFreed(before);
});

Deno.test("createApp() frees slots and blocks when the client of a stream disconnects", needed, async () => {
  const before = service.engine.stats().generatedTokens;
  const controller = new AbortController();
  const response = await service.post("/v1/completions", { ...LONG, stream: true }, {
    signal: controller.signal,
  });
  await response.body!.getReader().read();
  controller.abort();
  await assertFreed(before);
});

Deno.test(
  "createApp() frees slots and blocks when a client disconnects that waits for a whole answer",
  needed,
  async () => {
    const before = service.engine.stats().generatedTokens;
    const controller = new AbortController();
    const asked = service.post("/v1/completions", LONG, { signal: controller.signal });
    await until(() => service.engine.stats().running > 0, "the request runs");
    controller.abort();
    await asked.then(() => assert(false, "was answered"), () => {});
    await assertFreed(before);
  },
);

Deno.test("createApp() drops a request from the queue when its client disconnects", needed, async () => {
  const before = service.engine.stats().generatedTokens;
  const first = new AbortController();
  const running = service.post("/v1/completions", { ...LONG, n: 2, max_tokens: 1900 }, {
    signal: first.signal,
  });
  await until(() => service.engine.stats().running === 2, "both slots are taken");
  const second = new AbortController();
  const queued = service.post("/v1/completions", { ...LONG, n: 5 }, { signal: second.signal });
  await until(() => service.engine.stats().waiting === 5, "five choices wait");
  second.abort();
  await queued.catch(() => {});
  await until(() => service.engine.stats().waiting === 0, "none waits");
  first.abort();
  await running.catch(() => {});
  await assertFreed(before);
});

Deno.test("createApp() is not disturbed by clients that leave after their answer", needed, async () => {
  for (let i = 0; i < 5; i++) {
    const controller = new AbortController();
    const body = { prompt: "One day", max_tokens: 3, ignore_eos: true, stream: i % 2 === 0 };
    const response = await service.post("/v1/completions", body, { signal: controller.signal });
    await response.text();
    controller.abort();
  }
  const { usage } = await service.complete({ prompt: "One day", max_tokens: 20, ignore_eos: true });
  assertEquals(usage.completion_tokens, 20);
});

Deno.test("createApp() stops a prefill when its client disconnects", needed, async () => {
  // Sixteen tokens per step, each with its rivals, so that a long prompt takes a while.
  await using slow = await startService({ slots: 1, prefillChunk: 16, prefixCache: false });
  const prompt = promptOf(slow.engine, 2000);
  const controller = new AbortController();
  const body = { prompt, max_tokens: 1, echo: true, logprobs: 20, stream: true };
  const { body: answer } = await slow.post("/v1/completions", body, { signal: controller.signal });
  const computed = () => slow.engine.stats().promptTokens;
  await until(() => computed() > 0, "the prompt is being computed");
  controller.abort();
  await answer!.cancel().catch(() => {});
  await atRest(slow.engine);
  assert(computed() < 1900, `${computed()} tokens were computed`);
  assertEquals(slow.engine.stats().generatedTokens, 0);
});

Deno.test("createApp() ends a beam search when its client disconnects", needed, async () => {
  const before = service.engine.stats().generatedTokens;
  const controller = new AbortController();
  const body = {
    prompt: "Once upon a time",
    use_beam_search: true,
    n: 10,
    max_tokens: 1900,
    ignore_eos: true,
  };
  const asked = service.post("/v1/completions", body, { signal: controller.signal });
  await until(() => service.engine.stats().generatedTokens > before + 30, "the search runs");
  controller.abort();
  await asked.then(() => assert(false, "was answered"), () => {});
  await assertFreed(before);
});
