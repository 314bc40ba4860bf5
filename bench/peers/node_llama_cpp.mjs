/**
 * llama.cpp as the npm package node-llama-cpp ships it, measured in its own process by Node:
 *
 *     node node_llama_cpp.mjs PACKAGE_FOLDER MODEL THREADS CASES
 *
 * CASES is a list with commas of PROMPT:ANSWER:BATCH. Prints rows as kvrm_kernel.ts does. The package puts the sequences
 * that are evaluated at once into one batch by itself, and samples: its decode has more to do than llama-batched-bench.
 */
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, model, threads, cases] = process.argv.slice(2);
const { getLlama, LlamaLogLevel } = await import(
  pathToFileURL(join(folder, "node_modules/node-llama-cpp/dist/index.js")).href
);
const llama = await getLlama({
  gpu: false,
  build: "never",
  skipDownload: true,
  progressLogs: false,
  logLevel: LlamaLogLevel.error,
  maxThreads: Number(threads),
});
const loaded = await llama.loadModel({ modelPath: model });
const wanted = cases.split(",").map((one) => one.split(":").map(Number));

function prompt(length, seed) {
  return Array.from({ length }, (_, i) => 300 + (seed * 977 + i * 31) % 30_000);
}

async function decode(sequence, steps) {
  let last = 1000, count = 0;
  for await (const token of sequence.evaluate([last], { temperature: 0 })) {
    last = token;
    if (++count === steps) return;
  }
}

const rows = [];
for (const [length, steps, batch] of wanted) {
  const context = await loaded.createContext({
    sequences: batch,
    contextSize: length + steps + 8,
    batchSize: Math.max(512, batch),
    threads: Number(threads),
    flashAttention: true,
  });
  const sequences = Array.from({ length: batch }, () => context.getSequence());
  await sequences[0].evaluateWithoutGeneratingNewTokens(prompt(16, 0));
  await sequences[0].clearHistory();
  const began = performance.now();
  await Promise.all(sequences.map((one, i) => one.evaluateWithoutGeneratingNewTokens(prompt(length, i))));
  const prefill = batch * length / (performance.now() - began) * 1000;
  const start = performance.now();
  if (steps > 0) await Promise.all(sequences.map((one) => decode(one, steps)));
  const rate = batch * steps / (performance.now() - start) * 1000;
  rows.push({ prompt: length, answer: steps, batch, prefill, decode: steps > 0 ? rate : null });
  await context.dispose();
}
process.stdout.write(JSON.stringify({ rows }) + "\n");
process.exit(0);
