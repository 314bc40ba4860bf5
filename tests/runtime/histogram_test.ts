import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { Histogram } from "../../runtime/telemetry/histogram.ts";
import { Gauge, LoopMetrics } from "../../runtime/telemetry/loop_metrics.ts";

Deno.test("Histogram counts a value in the first bucket whose bound it does not pass", () => {
  const bounds = [1, 2, 5];
  fc.assert(fc.property(fc.array(fc.double({ min: 0, max: 7, noNaN: true })), (values) => {
    const histogram = new Histogram(bounds);
    for (const value of values) histogram.observe(value);
    const { counts, count } = histogram.snapshot();
    assertEquals(count, values.length);
    for (const [i, bound] of bounds.entries()) {
      const below = counts.slice(0, i + 1).reduce((sum, one) => sum + one, 0);
      assertEquals(below, values.filter((value) => value <= bound).length);
    }
  }));
});

Deno.test("Histogram.observe() counts a weight, and sums it", () => {
  const histogram = new Histogram([1]);
  histogram.observe(0.5, 4);
  histogram.observe(3);
  assertEquals(histogram.snapshot(), { bounds: [1], counts: [4, 1], sum: 5, count: 5 });
});

Deno.test("LoopMetrics shows one thread what another has filled in", () => {
  const buffer = LoopMetrics.allocate(3);
  const writer = new LoopMetrics(buffer, 3), reader = new LoopMetrics(buffer, 3);
  writer.gauges[Gauge.BUSY_SECONDS] = 7;
  writer.step[2]!.observe(0.5);
  writer.plan.observe(0.5);
  writer.groupsAfter.observe(3);
  assertEquals(reader.gauges[Gauge.BUSY_SECONDS], 7);
  assertEquals(reader.step.map((one) => one.snapshot().count), [0, 0, 1]);
  const others = [reader.plan, reader.commit, reader.groupsBefore, reader.groupsAfter];
  assertEquals(others.map((one) => one.snapshot().sum), [0.5, 0, 0, 3]);
});
