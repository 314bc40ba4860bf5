/**
 * Where KV blocks lie and how they move: block pager, block maps, transport.
 *
 * @module
 */

export { BlockMap, GROUP_WORDS } from "./block_map.ts";
export { FarHistory, SUMMARY_WORDS, SummaryKind } from "./far_history.ts";
export { type FarHistoryOptions, MOVE_BUDGET_BLOCKS, type PagerOptions, reservesSlots } from "./options.ts";
export { Owner } from "./owners.ts";
export { BlockPager } from "./pager.ts";
export { PagerStats } from "./stats.ts";
export { MOVE_WORDS } from "./transport.ts";
