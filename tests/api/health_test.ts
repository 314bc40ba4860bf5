import { assertEquals } from "@std/assert";
import { createApp } from "../../api/app.ts";
import type { Engine, EngineStats } from "../../mod.ts";

function health(engine: { failure: Error | null; heartbeatAgeMs: number }): Promise<Response> {
  const stats = () => ({ running: 1, waiting: 2, slots: 4, blocks: {}, ...engine }) as unknown as EngineStats;
  const served = { failure: engine.failure, model: { id: "m" }, stats } as unknown as Engine;
  return Promise.resolve(createApp(served).request("/health"));
}

Deno.test("GET /health says whether requests can be answered, in its status too", async () => {
  const found = await Promise.all([
    health({ failure: null, heartbeatAgeMs: 100 }),
    health({ failure: null, heartbeatAgeMs: 61_000 }),
    health({ failure: new Error("the GPU was lost"), heartbeatAgeMs: 100 }),
  ]);
  assertEquals(found.map(({ status }) => status), [200, 503, 503]);
  const bodies = await Promise.all(found.map((response) => response.json()));
  assertEquals(bodies.map(({ status }) => status), ["ok", "stalled", "failed"]);
});
