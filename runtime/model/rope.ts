/**
 * RoPE's inverse frequencies, as Hugging Face computes them.
 *
 * @module
 */

/** How positions are scaled. `llama3` is the piecewise scaling of Llama 3.1 and later. */
export type RopeScaling =
  | { type: "default" }
  | { type: "linear"; factor: number }
  | {
    type: "llama3";
    factor: number;
    lowFreqFactor: number;
    highFreqFactor: number;
    originalMaxPosition: number;
  };

const f32 = Math.fround;

/**
 * Inverse frequencies of rotate-half RoPE, scaling applied: [headDim / 2].
 *
 * Every operation is rounded to float32 in the order of `transformers`' modeling_rope_utils.py (PyTorch
 * computes `scalar / tensor` as `reciprocal(tensor) * scalar`), because a last-bit difference grows with
 * the position it is multiplied with.
 */
export function ropeInvFreq(headDim: number, theta: number, scaling: RopeScaling): Float32Array {
  const invFreq = new Float32Array(headDim / 2);
  for (let i = 0; i < invFreq.length; i++) {
    const exponent = f32((2 * i) / headDim);
    const base = f32(1 / f32(Math.pow(theta, exponent)));
    invFreq[i] = scaling.type === "default"
      ? base
      : scaling.type === "linear"
      ? f32(base / f32(scaling.factor))
      : llama3(base, scaling);
  }
  return invFreq;
}

/** Long wavelengths are stretched by `factor`, short ones kept, those between interpolated. */
function llama3(invFreq: number, s: RopeScaling & { type: "llama3" }): number {
  const old = s.originalMaxPosition;
  const wavelength = f32(f32(1 / invFreq) * f32(2 * Math.PI));
  const stretched = f32(invFreq / f32(s.factor));
  if (wavelength > f32(old / s.lowFreqFactor)) return stretched;
  if (wavelength < f32(old / s.highFreqFactor)) return invFreq;
  const turns = f32(f32(1 / wavelength) * f32(old));
  const smooth = f32(f32(turns - f32(s.lowFreqFactor)) / f32(s.highFreqFactor - s.lowFreqFactor));
  const kept = f32(smooth * invFreq);
  return f32(f32(f32(f32(1 - smooth) * invFreq) / f32(s.factor)) + kept);
}
