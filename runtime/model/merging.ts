/**
 * Byte-pair encoding by priorities: the same for lists of merges (GPT-2 and its descendants) and for scores of
 * pieces (SentencePiece).
 *
 * @module
 */

/** How soon two neighbours are joined: the lowest first, of equals the leftmost; undefined for never. */
export type Priority = (left: string, right: string) => number | undefined;

/** By a list of merges, "left right", the most urgent first. */
export function mergePriority(merges: readonly string[]): Priority {
  const ranks = new Map<string, number>();
  for (let i = 0; i < merges.length; i++) ranks.set(merges[i]!, i);
  return (left, right) => ranks.get(`${left} ${right}`);
}

/**
 * By the score of what they become, the highest first, as `sentencepiece::bpe::Model` does. ids: of all pieces;
 * scores: by id.
 */
export function scorePriority(ids: ReadonlyMap<string, number>, scores: ArrayLike<number>): Priority {
  return (left, right) => {
    const id = ids.get(left + right);
    return id === undefined ? undefined : -(scores[id] ?? 0);
  };
}

/** Words that are remembered. */
const CACHED_WORDS = 20_000;
/** Longer words are not. */
const CACHED_LENGTH = 64;

/** Cuts words into pieces, and remembers what became of the short ones. */
export class WordMerger {
  readonly #priority: Priority;
  readonly #cache = new Map<string, readonly string[]>();

  constructor(priority: Priority) {
    this.#priority = priority;
  }

  /** The pieces of a word; their concatenation is the word. */
  pieces(word: string): readonly string[] {
    const known = this.#cache.get(word);
    if (known !== undefined) return known;
    const pieces = mergeWord(Array.from(word), this.#priority);
    if (word.length <= CACHED_LENGTH) {
      if (this.#cache.size >= CACHED_WORDS) this.#cache.clear();
      this.#cache.set(word, pieces);
    }
    return pieces;
  }
}

/**
 * Joins neighbours until no two can be joined. symbols: characters, which are overwritten. O(n log n): pairs wait in
 * a heap, and one whose parts have changed since is passed over.
 */
function mergeWord(symbols: string[], priority: Priority): string[] {
  const count = symbols.length;
  const next = Int32Array.from(symbols, (_, i) => i + 1);
  const previous = Int32Array.from(symbols, (_, i) => i - 1);
  const heap = new PairHeap();
  const offer = (left: number, right: number) => {
    if (left < 0 || right >= count) return;
    const rank = priority(symbols[left]!, symbols[right]!);
    if (rank !== undefined) {
      heap.push({ rank, left, right, length: symbols[left]!.length + symbols[right]!.length });
    }
  };
  for (let i = 0; i + 1 < count; i++) offer(i, i + 1);
  for (let pair; (pair = heap.pop()) !== undefined;) {
    const { left, right } = pair;
    const [first, second] = [symbols[left]!, symbols[right]!];
    // What was merged away is "", and whatever grew has another length.
    if (first === "" || second === "" || first.length + second.length !== pair.length) continue;
    symbols[left] = first + second;
    symbols[right] = "";
    const after = next[right]!;
    next[left] = after;
    if (after < count) previous[after] = left;
    offer(previous[left]!, left);
    offer(left, after);
  }
  return symbols.filter((symbol) => symbol !== "");
}

interface Pair {
  rank: number;
  left: number;
  right: number;
  /** Of both parts, in UTF-16 units. */
  length: number;
}

const before = (a: Pair, b: Pair) => a.rank < b.rank || (a.rank === b.rank && a.left < b.left);

/** A binary heap of pairs, the most urgent on top. */
class PairHeap {
  readonly #pairs: Pair[] = [];

  push(pair: Pair): void {
    const pairs = this.#pairs;
    let at = pairs.push(pair) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(pair, pairs[parent]!)) break;
      pairs[at] = pairs[parent]!;
      at = parent;
    }
    pairs[at] = pair;
  }

  pop(): Pair | undefined {
    const pairs = this.#pairs;
    const top = pairs[0];
    const last = pairs.pop();
    if (last === undefined || pairs.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= pairs.length) break;
      if (child + 1 < pairs.length && before(pairs[child + 1]!, pairs[child]!)) child++;
      if (!before(pairs[child]!, last)) break;
      pairs[at] = pairs[child]!;
      at = child;
    }
    pairs[at] = last;
    return top;
  }
}
