/**
 * "Did you mean": the nearest of some words.
 *
 * @module
 */

/** The candidate that few edits make of `word`, or that it begins; null when none is near. */
export function nearest(word: string, candidates: readonly string[]): string | null {
  const scored = candidates
    .map((candidate) => ({ candidate, distance: editDistance(word, candidate) }))
    .sort((a, b) => a.distance - b.distance);
  const best = scored[0];
  if (best !== undefined && best.distance <= Math.max(2, Math.floor(word.length / 4))) return best.candidate;
  return candidates.find((candidate) => word.length > 3 && candidate.startsWith(word)) ?? null;
}

/** Insertions, deletions and substitutions between two words (Levenshtein). */
export function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substituted, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
