import { assert, assertEquals } from "@std/assert";
import { randomModel, type RandomModelShape } from "../../runtime/model/tables.ts";
import type { EngineOptions } from "../../runtime/options.ts";
import { relativeError } from "../golden.ts";
import { Bench } from "../harness.ts";
import { gpuLibrary, MISSING } from "./library.ts";

/**
 * The GPU's arithmetic beside the CPU's, layer by layer: what layer l writes into the KV pool is made of
 * everything before it, so blocks of both pools are compared layer for layer after the same prompt.
 */

const library = gpuLibrary();
const BLOCK = 16;
const PROMPT = Array.from({ length: 75 }, (_, i) => (i * 37 + 11) % 251);

interface Side {
  /** [layer][K|V] of all rows: [kv_head][token][dim] of the prompt and the answer but its last token. */
  layers: Float32Array[][];
  tokens: number[];
}

function run(shape: RandomModelShape, options: Omit<EngineOptions, "model">): Side {
  const tables = randomModel(shape);
  const { layers, kvHeads, headDim } = tables.config;
  using on = new Bench(tables, "f32", {
    slots: 2,
    blockTokens: BLOCK,
    maxContext: 256,
    prefillChunk: 64,
    prefixCache: false,
    inFlight: 1,
    ...options,
  });
  const sequence = on.sequence(PROMPT, 6);
  on.host.loop.submit(sequence);
  const blocks: number[] = [];
  on.drain(() => {
    for (let l = blocks.length; sequence.map && l < Math.ceil(sequence.scheduled / BLOCK); l++) {
      blocks.push(sequence.map.physical(l));
    }
  });
  const rows = PROMPT.length + 5;
  const plane = kvHeads * BLOCK * headDim;
  const bytes = new Uint8Array(on.host.engine.info.block_bytes);
  const out = Array.from(
    { length: layers },
    () => [0, 1].map(() => new Float32Array(rows * kvHeads * headDim)),
  );
  blocks.slice(0, Math.ceil(rows / BLOCK)).forEach((block, index) => {
    on.host.engine.exportBlocks(block, 1, bytes);
    const values = new Float32Array(bytes.buffer);
    for (let layer = 0; layer < layers; layer++) {
      for (let part = 0; part < 2; part++) {
        for (let head = 0; head < kvHeads; head++) {
          for (let t = 0; t < BLOCK && index * BLOCK + t < rows; t++) {
            const from = (layer * 2 + part) * plane + (head * BLOCK + t) * headDim;
            const to = ((index * BLOCK + t) * kvHeads + head) * headDim;
            out[layer]![part]!.set(values.subarray(from, from + headDim), to);
          }
        }
      }
    }
  });
  return { layers: out, tokens: on.sink.of(sequence.id).tokens };
}

const CASES: { name: string; shape: RandomModelShape; tolerance: number }[] = [
  {
    name: "F32, small heads",
    shape: { hidden: 96, intermediate: 176, layers: 3, heads: 6, kvHeads: 2, vocab: 251, dtype: "f32" },
    tolerance: 1e-5,
  },
  {
    name: "F32, heads of 64",
    shape: {
      hidden: 128,
      intermediate: 256,
      layers: 2,
      heads: 4,
      kvHeads: 2,
      headDim: 64,
      vocab: 256,
      dtype: "f32",
    },
    tolerance: 1e-5,
  },
  {
    name: "BF16, heads of 64",
    shape: {
      hidden: 256,
      intermediate: 512,
      layers: 3,
      heads: 8,
      kvHeads: 2,
      headDim: 64,
      vocab: 512,
      dtype: "bf16",
    },
    tolerance: 1e-2,
  },
  {
    name: "F16, heads of 128",
    shape: {
      hidden: 256,
      intermediate: 384,
      layers: 2,
      heads: 4,
      kvHeads: 1,
      headDim: 128,
      vocab: 512,
      dtype: "f16",
    },
    tolerance: 1e-2,
  },
];

for (const { name, shape, tolerance } of CASES) {
  Deno.test({
    name: `GpuEngine writes the K and V of each layer that the CPU writes: ${name}${library ? "" : MISSING}`,
    ignore: !library,
    fn() {
      const wanted = run(shape, { kvDtype: "f32" });
      const found = run(shape, { kvDtype: "f32", libraryPath: library! });
      for (let layer = 0; layer < shape.layers; layer++) {
        for (let part = 0; part < 2; part++) {
          const error = relativeError(found.layers[layer]![part]!, wanted.layers[layer]![part]!);
          assert(error < tolerance, `layer ${layer}, ${part === 0 ? "K" : "V"}: relative error ${error}`);
        }
      }
      if (shape.dtype === "f32") assertEquals(found.tokens, wanted.tokens);
    },
  });
}
