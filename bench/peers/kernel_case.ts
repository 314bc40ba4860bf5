/**
 * What all sides of the kernel table measure.
 *
 * @module
 */

/** A batch of prompts, and what follows each. */
export interface KernelCase {
  prompt: number;
  /** 0: only the prefill is measured. */
  answer: number;
  batch: number;
}

/** Tokens per second of all sequences together; NaN for a part that was not measured. */
export interface BatchedRow extends KernelCase {
  prefill: number;
  decode: number;
}

/** Cases as an argument of a program. */
export function casesText(cases: readonly KernelCase[]): string {
  return cases.map(({ prompt, answer, batch }) => `${prompt}:${answer}:${batch}`).join();
}

/** The cases of {@link casesText}. @throws {RangeError} naming the one that is none */
export function parseCases(text: string): KernelCase[] {
  return text.split(",").map((one) => {
    const [prompt, answer, batch] = one.split(":").map(Number);
    if (!(prompt! > 0 && answer! >= 0 && batch! > 0)) {
      throw new RangeError(`reading the case ${one}: wanted PROMPT:ANSWER:BATCH`);
    }
    return { prompt: prompt!, answer: answer!, batch: batch! };
  });
}

/** What a side's process prints. */
export function parseRows(text: string): { rows: BatchedRow[]; bandwidth: number } {
  const { rows, bandwidth } = JSON.parse(text) as { rows: BatchedRow[]; bandwidth?: number };
  // JSON has no NaN.
  const known = (value: number | null) => value ?? NaN;
  return {
    rows: rows.map((row) => ({ ...row, prefill: known(row.prefill), decode: known(row.decode) })),
    bandwidth: bandwidth ?? NaN,
  };
}
