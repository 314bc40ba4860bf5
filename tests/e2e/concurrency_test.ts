import { assertEquals } from "@std/assert";
import type { KvMode } from "../../mod.ts";
import { atRest, CANNOT_RUN, promptOf, readEvents, startService } from "./service.ts";

const REQUESTS = 32;

for (const kvMode of ["kv-rm", "static", "static-padded", "paged"] satisfies KvMode[]) {
  Deno.test(`createApp() gives each of 32 requests on 3 slots what it gives it alone, kvMode ${kvMode}`, {
    ignore: CANNOT_RUN,
  }, async () => {
    await using service = await startService({ kvMode, slots: 3, blockTokens: 16, maxContext: 256 });
    const bodies = Array.from({ length: REQUESTS }, (_, i) => ({
      prompt: promptOf(service.engine, 2 + (i * 37) % 150),
      max_tokens: 8 + (i * 13) % 60,
      temperature: i % 4 === 0 ? 0 : 1,
      seed: i,
      logprobs: 2,
    }));
    const solo = [];
    for (const body of bodies) solo.push((await service.complete(body)).choices[0]);
    const together = await Promise.all(bodies.map(async (body, i) => {
      if (i % 2 === 0) return (await service.complete(body)).choices[0];
      const events = await readEvents(await service.post("/v1/completions", { ...body, stream: true }));
      const choices = events.map((event) => event.choices[0]);
      const joined = (key: string) => choices.flatMap((choice) => choice.logprobs[key]);
      return {
        index: 0,
        text: choices.map((choice) => choice.text).join(""),
        logprobs: {
          tokens: joined("tokens"),
          token_logprobs: joined("token_logprobs"),
          top_logprobs: joined("top_logprobs"),
          text_offset: joined("text_offset"),
        },
        finish_reason: choices.at(-1).finish_reason,
        stop_reason: choices.at(-1).stop_reason,
      };
    }));
    assertEquals(together, solo);
    await atRest(service.engine);
  });
}
