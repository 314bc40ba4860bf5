import { assertAlmostEquals, assertEquals } from "@std/assert";
import { ropeInvFreq, type RopeScaling } from "../../runtime/model/rope.ts";
import golden from "./rope_golden.json" with { type: "json" };

Deno.test("ropeInvFreq() equals transformers' to the last bit but for PyTorch's pow()", () => {
  for (const { head_dim, theta, rope, inv_freq } of golden) {
    const got = ropeInvFreq(head_dim, theta, scaling(rope));
    assertEquals(got.length, head_dim / 2);
    let different = 0;
    inv_freq.forEach((wanted, i) => {
      // PyTorch's vectorised pow() is within 1 ulp, ours is correctly rounded.
      assertAlmostEquals(got[i]! / wanted, 1, 2 ** -23);
      if (got[i] !== Math.fround(wanted)) different++;
    });
    assertEquals(different <= 3, true, `${different} of ${got.length} differ for theta ${theta}`);
  }
});

function scaling(rope: typeof golden[number]["rope"]): RopeScaling {
  if (rope.rope_type === "linear") return { type: "linear", factor: rope.factor! };
  if (rope.rope_type === "default") return { type: "default" };
  return {
    type: "llama3",
    factor: rope.factor!,
    lowFreqFactor: rope.low_freq_factor!,
    highFreqFactor: rope.high_freq_factor!,
    originalMaxPosition: rope.original_max_position_embeddings!,
  };
}
