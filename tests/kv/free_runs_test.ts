import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { FreeRuns } from "../../runtime/kv/free_runs.ts";

Deno.test("FreeRuns.release() joins a run with its neighbours on both sides", () => {
  const runs = new FreeRuns(100);
  assertEquals(runs.release(10, 5), 10);
  assertEquals(runs.release(20, 5), 20);
  assertEquals(runs.release(15, 5), 10);
  assertEquals([runs.lengthOf(10), runs.free, runs.longestLength()], [15, 15, 15]);
  runs.checkInvariants();
});

Deno.test("FreeRuns.bestFit() gives the shortest run that is long enough", () => {
  const runs = new FreeRuns(1000);
  for (const [start, count] of [[0, 3], [10, 7], [30, 5], [100, 400]] as const) runs.release(start, count);
  assertEquals([1, 3, 4, 6, 8, 400].map((count) => runs.bestFit(count)), [0, 0, 30, 10, 100, 100]);
  assertEquals(runs.bestFit(401), -1);
});

Deno.test("FreeRuns.takeBack() takes a run's last blocks", () => {
  const runs = new FreeRuns(32);
  runs.release(8, 8);
  runs.takeBack(16, 3);
  assertEquals([runs.roomBefore(13), runs.roomAt(8), runs.has(13), runs.free], [5, 5, false, 5]);
  runs.checkInvariants();
});

Deno.test("FreeRuns agrees with a plain array of flags", () => {
  const size = 600;
  const operation = fc.record({ count: fc.integer({ min: 1, max: 200 }), pick: fc.nat(), kind: fc.nat(3) });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
      const runs = new FreeRuns(size);
      runs.release(0, size);
      const free = new Array<boolean>(size).fill(true);
      const lengths = () => {
        const found: { start: number; length: number }[] = [];
        for (let b = 0; b < size; b++) {
          if (!free[b]) continue;
          const start = b;
          while (b < size && free[b]) b++;
          found.push({ start, length: b - start });
        }
        return found;
      };
      const taken: { start: number; count: number }[] = [];
      for (const { count, pick, kind } of operations) {
        if (kind < 2) {
          const start = runs.bestFit(count);
          const fits = lengths().filter(({ length }) => length >= count);
          assertEquals(start >= 0, fits.length > 0);
          if (start < 0) continue;
          const fit = fits.find((run) => run.start === start)!;
          const shortest = Math.min(...fits.map(({ length }) => length));
          // Exact below 64 blocks, within an eighth above.
          assert(fit.length <= (shortest < 64 ? shortest : shortest * 1.125));
          const at = kind === 0 ? start : start + fit.length - count;
          if (kind === 0) runs.takeFront(start, count);
          else runs.takeBack(start + fit.length, count);
          free.fill(false, at, at + count);
          taken.push({ start: at, count });
        } else if (taken.length > 0) {
          const [run] = taken.splice(pick % taken.length, 1);
          runs.release(run!.start, run!.count);
          free.fill(true, run!.start, run!.start + run!.count);
        }
        assertEquals(runs.longestLength(), Math.max(0, ...lengths().map(({ length }) => length)));
      }
      runs.checkInvariants();
      for (let b = 0; b < size; b++) assertEquals(runs.has(b), free[b]);
    }),
    { numRuns: 60 },
  );
});
