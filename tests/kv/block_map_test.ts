import { assertEquals, assertThrows } from "@std/assert";
import { BlockMap, PagerStats } from "../../runtime/kv/mod.ts";

function mapOf(extents: [physical: number, count: number][], merge = true): BlockMap {
  const map = new BlockMap(3, 16, merge, new PagerStats());
  for (const [physical, count] of extents) map.append(physical, count);
  return map;
}

function physicals(map: BlockMap): number[] {
  return Array.from({ length: map.blockCount - map.firstBlock }, (_, i) => map.physical(map.firstBlock + i));
}

function groups(map: BlockMap, blocks: number, room = 99): number[][] | number {
  const out = new Uint32Array(4 * 20);
  const count = map.writeGroups(out, 4, 3, blocks, room);
  if (count < 0) return count;
  return Array.from({ length: count }, (_, i) => [...out.subarray(4 + i * 4, 8 + i * 4)]);
}

Deno.test("BlockMap.append() merges physically adjacent extents", () => {
  const map = mapOf([[10, 2], [12, 3], [20, 1]]);
  assertEquals([map.extentCount, map.blockCount], [2, 6]);
  assertEquals(physicals(map), [10, 11, 12, 13, 14, 20]);
});

Deno.test("BlockMap.physical() throws a RangeError for a block that is not mapped", () => {
  const map = mapOf([[10, 4]]);
  map.trimFront(1);
  for (const logical of [-1, 0, 4, NaN]) assertThrows(() => map.physical(logical), RangeError, "slot 3");
});

Deno.test("BlockMap.writeGroups() gives one group per extent, clipped to the blocks asked for", () => {
  const map = mapOf([[10, 4], [30, 4], [20, 4]]);
  map.trimFront(1);
  assertEquals(groups(map, 6), [[3, 1, 11, 3], [3, 4, 30, 2]]);
  assertEquals(groups(map, 99), [[3, 1, 11, 3], [3, 4, 30, 4], [3, 8, 20, 4]]);
});

Deno.test("BlockMap.writeGroups() returns -1 when the groups exceed the room", () => {
  const map = mapOf([[10, 4], [30, 4], [20, 4]]);
  assertEquals(groups(map, 12, 2), -1);
  assertEquals(groups(map, 8, 2), [[3, 0, 10, 4], [3, 4, 30, 4]]);
});

Deno.test("BlockMap.writeGroups() gives one group per block when it does not merge", () => {
  assertEquals(groups(mapOf([[10, 2], [30, 1]], false), 3), [[3, 0, 10, 1], [3, 1, 11, 1], [3, 2, 30, 1]]);
});

Deno.test("BlockMap.remap() cuts an extent in three", () => {
  const map = mapOf([[10, 5]]);
  map.remap(2, 1, 40);
  assertEquals(physicals(map), [10, 11, 40, 13, 14]);
  assertEquals(map.extentCount, 3);
});

Deno.test("BlockMap.remap() replaces several extents and merges with both neighbours", () => {
  const map = mapOf([[10, 2], [40, 1], [50, 2], [17, 2]]);
  map.remap(2, 3, 12);
  assertEquals(physicals(map), [10, 11, 12, 13, 14, 17, 18]);
  assertEquals(map.extentCount, 2);
  map.remap(5, 2, 15);
  assertEquals([map.extentCount, map.count[0]], [1, 7]);
});

Deno.test("BlockMap.truncate() and trimFront() unmap whole and partial extents", () => {
  const map = mapOf([[10, 4], [30, 4], [20, 4]]);
  map.truncate(7);
  map.trimFront(5);
  assertEquals(physicals(map), [31, 32]);
  assertEquals([map.extentCount, map.firstBlock, map.blockCount], [1, 5, 7]);
});
