import { assert, assertEquals } from "@std/assert";
import { PrefixIndex, ROOT } from "../../runtime/kv/prefix_index.ts";
import { random } from "./model.ts";

function publish(index: PrefixIndex, parent: number, block: number, tokens: number[]): number {
  const array = Int32Array.from(tokens);
  return index.insert(index.hash(parent, array, 0), parent, block, array, 0);
}

function find(index: PrefixIndex, parent: number, tokens: number[]): number {
  const array = Int32Array.from(tokens);
  return index.find(index.hash(parent, array, 0), parent, array, 0);
}

Deno.test("PrefixIndex.find() tells equal tokens below different parents apart", () => {
  const index = new PrefixIndex(8, 2);
  const a = publish(index, ROOT, 0, [1, 2]);
  const b = publish(index, ROOT, 1, [3, 4]);
  const below = publish(index, b, 2, [5, 6]);
  assertEquals(find(index, a, [5, 6]), -1);
  assertEquals(find(index, b, [5, 6]), below);
  assertEquals(index.blockOf(below), 2);
});

Deno.test("PrefixIndex.find() compares token ids where hashes collide", () => {
  const index = new PrefixIndex(8, 2, 1);
  const seen = new Map<number, [number, number]>();
  let pair: [number[], number[]] | null = null;
  const rnd = random(1); // a birthday among 2^32: some 80,000 draws
  while (pair === null) {
    const tokens: [number, number] = [rnd() * 2 ** 32 | 0, rnd() * 2 ** 32 | 0];
    const hash = index.hash(ROOT, Int32Array.from(tokens), 0);
    const other = seen.get(hash);
    if (other !== undefined) pair = [other, tokens];
    seen.set(hash, tokens);
  }
  const entry = publish(index, ROOT, 0, pair[0]);
  assertEquals(find(index, ROOT, pair[0]), entry);
  assertEquals(find(index, ROOT, pair[1]), -1);
  const second = publish(index, ROOT, 1, pair[1]);
  index.remove(0);
  assertEquals([find(index, ROOT, pair[0]), find(index, ROOT, pair[1])], [-1, second]);
  index.checkInvariants();
});

Deno.test("PrefixIndex.remove() leaves children that no look-up reaches, even when the entry is used again", () => {
  const index = new PrefixIndex(8, 2);
  const parent = publish(index, ROOT, 0, [1, 2]);
  publish(index, parent, 1, [5, 6]);
  index.remove(0);
  assert(index.isOrphan(1));
  const other = publish(index, ROOT, 2, [9, 9]);
  assertEquals(other, parent, "the test wants the entry to be used again");
  assertEquals(find(index, other, [5, 6]), -1);
  assert(index.isLeaf(2) && index.isOrphan(1) && index.parentBlock(1) === -1);
  index.remove(1);
  index.checkInvariants();
});

Deno.test("PrefixIndex.relocate() keeps a block findable, and what hangs below it", () => {
  const index = new PrefixIndex(8, 2);
  const parent = publish(index, ROOT, 0, [1, 2]);
  publish(index, parent, 1, [3, 4]);
  index.relocate(0, 5);
  assertEquals([index.entryOf(0), index.blockOf(find(index, ROOT, [1, 2]))], [-1, 5]);
  assertEquals([index.parentBlock(1), index.isLeaf(5), index.isLeaf(1)], [5, false, true]);
  index.checkInvariants();
});

Deno.test("PrefixIndex holds as many entries as blocks, in any order of removal", () => {
  const index = new PrefixIndex(500, 1);
  for (let round = 0; round < 4; round++) {
    for (let block = 0; block < 500; block++) {
      if (index.entryOf(block) < 0) publish(index, ROOT, block, [block * 31 + round]);
    }
    for (let i = 0; i < 500; i += round + 1) index.remove(i * 7 % 500);
    index.checkInvariants();
    for (let block = 0; block < 500; block++) if (index.entryOf(block) >= 0) index.remove(block);
    assertEquals(index.size, 0);
  }
});
