import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { randomModel } from "../../runtime/model/folder.ts";
import { engineSizes } from "../../runtime/options.ts";
import { weightBytes } from "../../runtime/sim/cost.ts";
import { noWork } from "../../runtime/sim/work.ts";
import type { KvMode } from "../../runtime/types.ts";
import { MODEL } from "../evaluation/sides.ts";
import { quantile } from "../report.ts";
import { makeWorkload } from "../workloads/workload.ts";
import { between, type Calibration, halfWay, inTraffic, measuredCost } from "./measured_cost.ts";
import { Histogram } from "./histogram.ts";
import { leastLoaded, Measurements, prefixAware, Replica, roundRobin, simulate } from "./replica.ts";

const SHAPE = { hidden: 64, intermediate: 128, layers: 2, heads: 4, kvHeads: 2, vocab: 1000 } as const;
const TABLES = randomModel({ ...SHAPE, maxPosition: 2048, dtype: "f16" });
const IDLE = noWork();

function sizes(kvMode: KvMode = "kv-rm", slots = 4) {
  // Without a budget of time the plan does not depend on what steps cost.
  const options = { model: "", slots, kvMode, maxContext: 1024, structuredOutput: false, mixedStretch: 0 };
  return engineSizes(options, TABLES, "f16");
}

function workload(count: number) {
  return makeWorkload({
    family: "multi-turn",
    trace: "synthetic",
    lengthScale: 0.05,
    maxContext: 1024,
    vocab: SHAPE.vocab,
    count,
  }).requests;
}

Deno.test("measuredCost() adds up what was measured", () => {
  const cost = measuredCost({
    body: [[1, 10], [3, 30]],
    head: [[1, 5], [2, 7]],
    perDecodeToken: 0.5,
    perPrefillPair: 0.25,
    perPrefillKv: 0.5,
    perMovedBlock: 3,
    gap: 2,
  });
  assertEquals(cost({ ...IDLE, rows: 2 }), 20);
  assertEquals(
    cost({ ...IDLE, rows: 2, samples: 2, decodeKv: 10, prefillKv: 4, prefillPairs: 8, movedBlocks: 1 }),
    39,
  );
  assertEquals(between([[1, 10], [3, 30]], 5), 50);
});

Deno.test("halfWay() is the mean of two calibrations, and says how much a step's time has changed", () => {
  const one = (factor: number): Calibration => ({
    body: [[1, 10 * factor], [3, 30]],
    head: [[1, 5]],
    perDecodeToken: factor,
    perPrefillPair: 1,
    perPrefillKv: 1,
    perMovedBlock: 1,
    gap: 2 * factor,
  });
  for (const [a, b] of [[one(1), one(2)], [one(2), one(1)]] as const) {
    const { calibration, apart } = halfWay(a, b);
    assertEquals(apart, 2);
    assertEquals(calibration.body, [[1, 15], [3, 30]]);
    assertEquals([calibration.perDecodeToken, calibration.gap], [1.5, 3]);
  }
});

Deno.test("inTraffic() draws what steps of each kind were off by, the same for the same seed", () => {
  const beside = { decode: [1, 2], mixed: [10] };
  const costs = [7, 7, 8].map((seed) => {
    const cost = inTraffic(({ rows }) => rows, beside, seed);
    return Array.from({ length: 200 }, () => cost({ ...IDLE, rows: 3 }));
  });
  assertEquals(costs[0], costs[1]);
  assert(costs[0]!.join() !== costs[2]!.join());
  for (const value of costs[0]!) assert(value === 3 || value === 6);
  const mean = costs[0]!.reduce((sum, value) => sum + value, 0) / 200;
  assert(mean > 4 && mean < 5, `${mean}`);
  assertEquals(inTraffic(({ rows }) => rows, beside, 1)({ ...IDLE, rows: 3, prefillPairs: 1 }), 30);
});

Deno.test("Histogram.quantile() is right to half a per cent", () => {
  const histogram = new Histogram();
  const values = Array.from({ length: 5_000 }, (_, i) => 0.01 * 1.003 ** (i % 4_000));
  for (const value of values) histogram.add(value);
  for (const q of [0, 0.01, 0.5, 0.9, 0.99, 1]) {
    const exact = quantile(values, q);
    assert(Math.abs(histogram.quantile(q) / exact - 1) < 0.006, `${q}: ${histogram.quantile(q)}, ${exact}`);
  }
  assert(Number.isNaN(new Histogram().quantile(0.5)));
});

Deno.test("SimulatedEngine keeps steps that follow each other apart, and their own time as it is", () => {
  const run = (gap: number) => {
    const one = new Replica(sizes(), SHAPE.vocab, () => 100, new Measurements(), 0, gap);
    const end = simulate([one], workload(10).map((request) => ({ ...request, arrivalMs: 0 })));
    return { end, steps: one.loop.stats.steps, exec: one.loop.stats.lastExecMs };
  };
  const plain = run(0), apart = run(7);
  assertEquals([apart.steps, apart.exec], [plain.steps, 0.1]);
  assertAlmostEquals(apart.end - plain.end, 7e-3 * plain.steps, 1e-2);
});

Deno.test("simulate() answers every request in every mode, in time that the costs alone decide", () => {
  for (const kvMode of ["kv-rm", "static", "static-padded", "paged"] as const) {
    const requests = workload(40);
    const ends = [1, 2].map((scale) => {
      const into = new Measurements();
      const one = new Replica(
        sizes(kvMode),
        SHAPE.vocab,
        ({ rows }) => scale * (100 + 10 * rows),
        into,
        0,
      );
      const end = simulate([one], requests.map((request) => ({ ...request, arrivalMs: 0 })));
      assertEquals([into.finished, one.load], [requests.length, 0]);
      assertEquals(into.tokens, requests.reduce((sum, { maxTokens }) => sum + maxTokens, 0));
      // Everybody is there from the start: the engine never idles.
      assertAlmostEquals(one.engine.busy / 1000, end, 1e-6);
      return end;
    });
    assertAlmostEquals(ends[1]! / ends[0]!, 2, 1e-9);
  }
});

Deno.test("simulate() counts the padding that static-padded computes", () => {
  const requests = workload(30);
  const [padded, exact] = (["static-padded", "static"] as const).map((kvMode) => {
    const one = new Replica(
      sizes(kvMode),
      SHAPE.vocab,
      ({ rows, decodeKv }) => rows + decodeKv,
      new Measurements(),
    );
    simulate([one], requests);
    return one.engine.busy;
  });
  assert(padded! > 1.2 * exact!, `${padded} and ${exact}`);
});

Deno.test("prefixAware() finds more in the caches than routers that do not look at prompts", () => {
  const hits = [roundRobin(), leastLoaded(), prefixAware(16, 4)].map((route) => {
    const into = new Measurements();
    const replicas = Array.from(
      { length: 8 },
      () => new Replica(sizes(), SHAPE.vocab, ({ rows }) => 500 + 10 * rows, into),
    );
    simulate(replicas, workload(300), route);
    assertEquals(into.finished, 300);
    return into.cachedTokens / into.promptTokens;
  });
  assert(hits[2]! > 1.3 * Math.max(hits[0]!, hits[1]!), hits.join());
});

Deno.test("randomModel() of the replays has the shape that costs are worked out for", () => {
  const { config, tensors } = randomModel({ ...MODEL, maxPosition: 64, dtype: "f16" });
  const matrices = tensors.filter(({ role, cols }) => role !== 0 && cols > 1);
  const bytes = matrices.reduce((sum, { rows, cols }) => sum + 2 * rows * cols, 0);
  assertEquals(bytes, weightBytes({ ...MODEL }));
  assertEquals(config.layers, MODEL.layers);
});
