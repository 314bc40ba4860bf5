/**
 * How fast the native step is: decode at 1, 4 and 16 sequences and prefill of a random-weight 160M Llama
 * shape, beside the read bandwidth of the machine, which is decode's limit at batch 1.
 *
 * @module
 */
import { EngineHost } from "../../runtime/host.ts";
import { randomModel } from "../../runtime/model/folder.ts";
import { engineSizes } from "../../runtime/options.ts";
import type { Sequence } from "../../runtime/sequence.ts";
import { greedy, silent } from "../loop.ts";
import { median, type Report, type Rows } from "../report.ts";

const SHAPE = { hidden: 768, intermediate: 3072, layers: 12, heads: 12, kvHeads: 4, vocab: 32_000 } as const;
const PROMPT = 128;
const DECODE_STEPS = 48;
const REPEATS = 5;

function sequence(id: number, promptLength: number, maxTokens: number): Sequence {
  return greedy(id, promptLength, maxTokens, (i) => (id * 977 + i * 31) % SHAPE.vocab);
}

/** Runs the suite. */
export function run(): Promise<Report[]> {
  const rows: Rows = [];
  let bandwidth = 0;
  for (const dtype of ["bf16", "f16", "f32"] as const) {
    const tables = randomModel({ ...SHAPE, maxPosition: 2048, dtype });
    const options = {
      model: "",
      slots: 16,
      prefillChunk: 512,
      mixedChunk: 512,
      mixedStretch: 0,
      prefixCache: false,
      kvDtype: "bf16",
    } as const;
    using host = new EngineHost(tables, engineSizes(options, tables, dtype), silent);
    bandwidth = Math.max(bandwidth, host.library.measureBandwidth(0, 512, 4));
    const weights = tables.tensors.reduce(
      // The embedding is read by row; the head is the tied or untied matrix, read whole.
      (sum, tensor) => sum + (tensor.role === 0 ? 0 : tensor.rows * tensor.cols * (dtype === "f32" ? 4 : 2)),
      0,
    );
    const row: Rows[number] = { weights: dtype };
    let id = 0;
    const prefill: number[] = [];
    for (let repeat = 0; repeat < REPEATS; repeat++) {
      host.loop.submit(sequence(++id, 512, 0));
      const start = performance.now();
      while (!host.loop.idle) host.loop.turn(10_000_000);
      prefill.push(512 / (performance.now() - start) * 1000);
    }
    for (const batch of [1, 4, 16]) {
      const rates: number[] = [];
      for (let repeat = 0; repeat < REPEATS; repeat++) {
        for (let i = 0; i < batch; i++) host.loop.submit(sequence(++id, PROMPT, DECODE_STEPS + 8));
        const { running } = host.scheduler;
        while (running.length < batch || running.some((one) => one.generated < 2)) host.loop.turn(10_000_000);
        const before = host.loop.stats.generatedTokens;
        const start = performance.now();
        while (!running.some((one) => one.generated >= DECODE_STEPS)) host.loop.turn(10_000_000);
        rates.push((host.loop.stats.generatedTokens - before) / (performance.now() - start) * 1000);
        while (!host.loop.idle) host.loop.turn(10_000_000);
      }
      row[`decode ${batch}`] = median(rates);
      if (batch === 1) row["GB/s at 1"] = median(rates) * weights / 1e9;
    }
    row["prefill 512"] = median(prefill);
    rows.push(row);
  }
  return Promise.resolve([{
    suite: "160M Llama shape, random weights: tokens/s, medians of 5",
    rows,
    notes: [`read bandwidth of this machine: ${bandwidth.toFixed(1)} GB/s over all threads`],
  }]);
}
