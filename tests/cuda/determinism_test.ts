import { loadModelTables, randomModel } from "../../runtime/model/tables.ts";
import { checkDeterminism } from "../determinism.ts";
import { FIXTURES } from "../golden.ts";
import { gpuLibrary, MISSING, onEmulator } from "./library.ts";

const library = gpuLibrary();
// An emulated token takes milliseconds. Few workloads: of this seed because they preempt, reuse a prefix and move blocks.
const size = onEmulator(library) ? { numRuns: 6, maxRequests: 6, maxTokens: 24, seed: 32 } : {};

Deno.test({
  name: `GpuEngine gives tensor core models the same bits alone and in any company${library ? "" : MISSING}`,
  ignore: !library,
  fn() {
    const tables = randomModel({
      hidden: 128,
      intermediate: 192,
      layers: 2,
      heads: 4,
      kvHeads: 2,
      headDim: 64,
      vocab: 160,
      dtype: "bf16",
    });
    checkDeterminism({ tables, dtype: "bf16", kvDtype: "bf16", libraryPath: library!, ...size });
  },
});

Deno.test({
  name: `GpuEngine gives qwen3 the same bits alone and in any company${library ? "" : MISSING}`,
  ignore: !library,
  async fn() {
    const model = await loadModelTables(`${FIXTURES}/models/qwen3`);
    checkDeterminism({ ...model, libraryPath: library!, ...size });
  },
});
