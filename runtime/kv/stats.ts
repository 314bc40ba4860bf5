/**
 * What the pager counts. Plain numbers, updated in place; reading them costs nothing.
 *
 * @module
 */

/** Occupancy now and counters since construction, in blocks unless said otherwise. */
export class PagerStats {
  /** The pool: `active + cached + inFlight + moving + reserved + free`. */
  total = 0;
  /** Mapped by at least one sequence. */
  active = 0;
  /** Mapped by none, but findable in the prefix index. */
  cached = 0;
  /** Mapped by none and not findable, but a planned step that touches them has not completed. */
  inFlight = 0;
  /** The same, but the moves that touch them are not written yet: those of the step being planned. */
  moving = 0;
  /** Kept ahead of a sequence: softly (reclaimable) in kv-rm mode, for good in static mode. */
  reserved = 0;
  /** Neither of the above. */
  free = 0;
  /** Mapped by more than one sequence. */
  shared = 0;
  /** Kept for the rests of prompts that are on their way in; of the reserved, the free and the cached ones. */
  promised = 0;

  /** Open sequences. */
  sequences = 0;
  /** Extents of all open sequences, as of the last planMoves(). */
  extents = 0;
  /** Longest run of free blocks, as of the last planMoves(); 0 in paged and static mode. */
  largestFreeRun = 0;

  /** Moves written (copy on write and staging), after merging. */
  movesPlanned = 0;
  /** Blocks those moves copy. */
  blocksMoved = 0;
  /** Blocks planned to be copied on write. */
  cowBlocks = 0;
  /** Blocks planned to be relocated. */
  stagedBlocks = 0;
  /** Groups that staging made superfluous. */
  groupsStaged = 0;

  /** Blocks given up for summary rows, or for nothing. */
  farBlocks = 0;

  /** Cached blocks that were evicted. */
  evictions = 0;
  /** Reserves ahead that were taken back under pressure, in blocks. */
  reserveReclaims = 0;
  /** Tokens of opened sequences that asked the prefix index, and tokens it had. */
  prefixQueries = 0;
  prefixHits = 0;

  /** Blocks listed by writeGroups(), and the groups they were merged into. */
  groupsBeforeMerge = 0;
  groupsAfterMerge = 0;
}
