/**
 * Whose each physical block is, for who wants to look at the pool.
 *
 * @module
 */

import type { BlockMap } from "./block_map.ts";
import type { BlockPool } from "./block_pool.ts";

/** What a block is. The blocks of slot s are SLOT + s; those set aside for it, the same with RESERVED. */
export const Owner = {
  FREE: 0,
  /** Nobody reads it, but a prompt that begins alike may find it. */
  CACHED: 1,
  /** Given back, while a step that touches it still runs. */
  LEAVING: 2,
  /** More than one sequence reads it. */
  SHARED: 3,
  SLOT: 16,
  RESERVED: 1 << 15,
} as const;

/**
 * Writes the owner of block b to `owners[b]`. `pool` is null in static mode, where a slot's whole region is
 * its own for as long as it is open. Allocates nothing. O(blocks).
 */
export function writeOwners(
  owners: Uint16Array,
  maps: readonly BlockMap[],
  pool: BlockPool | null,
  maxBlocks: number,
): void {
  if (pool === null) owners.fill(Owner.FREE);
  else for (let block = 0; block < pool.numBlocks; block++) owners[block] = unmapped(pool, block);
  for (let slot = 0; slot < maps.length; slot++) {
    const map = maps[slot]!;
    if (!map.open) continue;
    const mine = Owner.SLOT + slot;
    for (let i = 0; i < map.extentCount; i++) {
      const end = map.physicalStart[i]! + map.count[i]!;
      for (let block = map.physicalStart[i]!; block < end; block++) {
        if (owners[block] !== Owner.SHARED) owners[block] = mine;
      }
    }
    const end = pool === null ? slot * maxBlocks + map.blockCount : map.physicalEnd();
    const reserve = pool === null ? maxBlocks - map.blockCount : map.reserve;
    if (reserve > 0) owners.fill(mine | Owner.RESERVED, end, end + reserve);
  }
}

/** As far as that can be said without the maps. */
function unmapped(pool: BlockPool, block: number): number {
  const refs = pool.refs[block]!;
  if (refs > 0) return refs > 1 ? Owner.SHARED : Owner.FREE;
  if (pool.index.entryOf(block) >= 0) return Owner.CACHED;
  return pool.isLeaving(block) ? Owner.LEAVING : Owner.FREE;
}
