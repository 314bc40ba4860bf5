/**
 * Our side of the kernel table, as a process of its own, as llama-batched-bench is one: prints rows as JSON.
 *
 *     kvrm_kernel.ts MODEL THREADS CASES [QUANTIZE]
 *
 * MODEL is a file or folder, or `random:SHAPE:TYPE` for weights that the library makes up; CASES is a list with commas
 * of PROMPT:ANSWER:BATCH. Of each: the rate of prefilling that many prompts, and of decoding from there, sampling and
 * planning included.
 *
 * @module
 */
import { EngineHost } from "../../runtime/host.ts";
import { loadModelTables, randomModel } from "../../runtime/model/folder.ts";
import { type EngineOptions, engineSizes } from "../../runtime/options.ts";
import { greedy, silent } from "../loop.ts";
import { type BatchedRow, parseCases } from "./kernel_case.ts";
import { FIRST_TEXT_TOKEN, SHAPES } from "./random_gguf.ts";

/** Steps before decoding is timed: the last prefill step gives the first token, the next one starts the pipeline. */
const LEAD_STEPS = 2;
const TURN_NS = 10_000_000;

// Steps are measured, and not how soon the first of them can be taken.
Deno.env.set("KVRM_PACK", "now");

async function tablesOf(model: string) {
  if (!model.startsWith("random:")) {
    const { tables, dtype } = await loadModelTables(model);
    return { tables, dtype };
  }
  const [, shape, type] = model.split(":");
  const dtype = type!.toLowerCase() as "bf16" | "f16" | "f32";
  return {
    tables: randomModel({ ...SHAPES[shape as keyof typeof SHAPES], maxPosition: 16_384, dtype }),
    dtype,
  };
}

const [model, threads, text, quantize] = Deno.args as [string, string, string, EngineOptions["quantize"]];
const { tables, dtype } = await tablesOf(model);
const cases = parseCases(text);
const context = Math.max(...cases.map(({ prompt, answer }) => prompt + answer)) + LEAD_STEPS + 2;
using host = new EngineHost(
  tables,
  engineSizes(
    {
      model: "",
      slots: Math.max(...cases.map(({ batch }) => batch)),
      threads: Number(threads),
      prefillChunk: 512,
      mixedChunk: 512,
      mixedStretch: 0,
      prefixCache: false,
      structuredOutput: false,
      kvDtype: "bf16",
      ...(quantize && { quantize }),
      maxContext: context,
    },
    tables,
    dtype,
  ),
  silent,
);
const { loop, scheduler } = host;
const { vocab } = tables.config;
let id = 0;

function submit(batch: number, prompt: number, tokens: number): void {
  for (let i = 0; i < batch; i++) {
    const seed = ++id;
    loop.submit(
      greedy(
        seed,
        prompt,
        tokens,
        (k) => FIRST_TEXT_TOKEN + (seed * 977 + k * 31) % (vocab - FIRST_TEXT_TOKEN),
      ),
    );
  }
}

function finish(): void {
  while (!loop.idle) loop.turn(TURN_NS);
}

submit(1, 16, 4);
finish();
const rows: BatchedRow[] = [];
for (const { prompt, answer, batch } of cases) {
  const began = performance.now();
  submit(batch, prompt, 0);
  finish();
  const prefill = batch * prompt / (performance.now() - began) * 1000;
  let decode = NaN;
  if (answer > 0) {
    submit(batch, prompt, answer + LEAD_STEPS);
    const { running } = scheduler;
    while (running.length < batch || running.some((one) => one.generated < LEAD_STEPS)) loop.turn(TURN_NS);
    const before = loop.stats.generatedTokens;
    const start = performance.now();
    finish();
    decode = (loop.stats.generatedTokens - before) / (performance.now() - start) * 1000;
  }
  rows.push({ prompt, answer, batch, prefill, decode });
}
const bandwidth = host.library.measureBandwidth(0, 512, 4);
Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify({ rows, bandwidth }) + "\n"));
