import { assert, assertEquals } from "@std/assert";
import { BlockPager, Owner, type PagerOptions } from "../../runtime/kv/mod.ts";

const B = 4;

function pagerOf(options: Partial<PagerOptions> = {}): BlockPager {
  return new BlockPager({
    numBlocks: 32,
    blockTokens: B,
    mode: "kv-rm",
    slots: 3,
    maxBlocksPerSequence: 8,
    maxGroupsPerSlot: 8,
    prefixCache: true,
    reserveBlocks: 0,
    moveBudgetBlocks: 0,
    ...options,
  });
}

function ownersOf(pager: BlockPager): number[] {
  const owners = new Uint16Array(pager.stats.total).fill(0xffff);
  pager.writeOwners(owners);
  return [...owners];
}

const count = (owners: number[], which: (owner: number) => boolean) => owners.filter(which).length;
const tokens = Int32Array.from({ length: 64 }, (_, i) => i);

for (const mode of ["kv-rm", "paged"] as const) {
  Deno.test(`BlockPager.writeOwners() says whose each block is, in ${mode} mode`, () => {
    const pager = pagerOf({ mode });
    assertEquals(ownersOf(pager), new Array(32).fill(Owner.FREE));

    const first = pager.open(0, tokens, 2 * B + 1, true)!;
    pager.publish(first, tokens, 2 * B);
    const mine = ownersOf(pager);
    for (let b = 0; b < first.blockCount; b++) assertEquals(mine[first.physical(b)], Owner.SLOT);
    assertEquals(count(mine, (owner) => owner !== Owner.FREE), 3);

    const second = pager.open(2, tokens, 2 * B + 1, true)!;
    const both = ownersOf(pager);
    assertEquals([both[second.physical(0)], both[second.physical(1)]], [Owner.SHARED, Owner.SHARED]);
    assertEquals(both[second.physical(2)], Owner.SLOT + 2);
    assertEquals(both[first.physical(2)], Owner.SLOT);

    const last = [first.physical(2), second.physical(2)];
    pager.planMoves([first, null, second], 1);
    pager.close(first, 1);
    pager.close(second, 1);
    const left = ownersOf(pager);
    assertEquals(count(left, (owner) => owner === Owner.CACHED), 2);
    for (const block of last) assertEquals(left[block], Owner.LEAVING);
    pager.completed(1);
    assertEquals(count(ownersOf(pager), (owner) => owner === Owner.FREE), 30);
    pager.checkInvariants();
  });
}

Deno.test("BlockPager.writeOwners() tells what is set aside from what is used", () => {
  const pager = pagerOf({ reserveBlocks: 2 });
  const map = pager.open(1, tokens, B, true)!;
  const owners = ownersOf(pager);
  assertEquals(count(owners, (owner) => owner === Owner.SLOT + 1), 1);
  assert(pager.stats.reserved > 0);
  assertEquals(
    count(owners, (owner) => owner === (Owner.SLOT + 1 | Owner.RESERVED)),
    pager.stats.reserved,
  );
  assertEquals(owners[map.physicalEnd()], Owner.SLOT + 1 | Owner.RESERVED);
});

Deno.test("BlockPager.writeOwners() gives an open slot its whole region, in static mode", () => {
  const pager = pagerOf({ mode: "static" });
  pager.open(1, tokens, 3 * B, true);
  const owners = ownersOf(pager);
  assertEquals(owners.slice(8, 11), new Array(3).fill(Owner.SLOT + 1));
  assertEquals(owners.slice(11, 16), new Array(5).fill(Owner.SLOT + 1 | Owner.RESERVED));
  assertEquals(count(owners, (owner) => owner !== Owner.FREE), 8);
});
