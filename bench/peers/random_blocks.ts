/**
 * Random weights, straight in the bytes of each GGUF type: of mean zero and a standard deviation near 0.02, as models
 * are initialised. Only the scales are thought about; the rest of a block is noise as it comes. Blocks are laid out as
 * in ggml-common.h of https://github.com/ggml-org/ggml.
 *
 * @module
 */
import { GGUF_TYPES, type GgufType } from "./gguf_writer.ts";

/** A stream of 32-bit words: xorshift32 (Marsaglia, "Xorshift RNGs", 2003). */
export class Noise {
  #state: number;

  constructor(seed: number) {
    this.#state = (Math.imul(seed + 1, 0x9e3779b9) | 0) || 1;
  }

  /** The next word, as a signed 32-bit integer. */
  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return this.#state = x;
  }

  /** Fills `bytes` with words of which `keep` leaves some bits and `set` sets others. */
  fill(bytes: Uint8Array<ArrayBuffer>, keep = -1, set = 0): void {
    const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
    let x = this.#state;
    for (let i = 0; i < words.length; i++) {
      x ^= x << 13;
      x ^= x >>> 17;
      x ^= x << 5;
      words[i] = x & keep | set;
    }
    this.#state = x;
    // The scales of a block lie where they lie: a rest of up to three bytes.
    for (let i = words.length * 4; i < bytes.length; i++) bytes[i] = (this.next() & keep | set) & 0xff;
  }
}

const toHalf = new DataView(new ArrayBuffer(2));

/** The bits of `value` as a half-precision number. */
function half(value: number): number {
  toHalf.setFloat16(0, value, true);
  return toHalf.getUint16(0, true);
}

/** Scales around `middle` by a factor of up to 1.4 either way, as half-precision bits, with `factor` times as much beside. */
function scales(middle: number, factor: number): Uint16Array {
  const table = new Uint16Array(128);
  for (let i = 0; i < 64; i++) {
    const scale = middle * 2 ** ((i - 31.5) / 64);
    table[2 * i] = half(scale);
    table[2 * i + 1] = half(scale * factor);
  }
  return table;
}

/** Exponent 2^-6: magnitudes from 0.0156 to 0.0312. */
const FLOATS: Partial<Record<GgufType, [keep: number, set: number]>> = {
  F32: [0x807fffff | 0, 121 << 23],
  F16: [0x83ff83ff | 0, 9 << 26 | 9 << 10],
  BF16: [0x807f807f | 0, 121 << 23 | 121 << 7],
};

// What a quantised value's spread is multiplied by; see `fixBlock` for the spread.
const Q8_0 = scales(0.02 / 36.9, 0);
const Q4_0 = scales(0.02 / 4.6, 0);
const Q4_K = scales(0.02 / (4.6 * 36), 7.5);
const Q5_K = scales(0.02 / (9.2 * 36), 15.5);
const Q6_K = scales(0.02 / (18.5 * 18.5), 0);

function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value & 0xff;
  bytes[at + 1] = value >>> 8;
}

/** The 12 bytes of 6-bit scales and minima of Q4_K and Q5_K, each minimum equal to its scale: blocks of mean zero. */
function kScales(bytes: Uint8Array, at: number): void {
  for (let i = 0; i < 4; i++) {
    bytes[at + 4 + i] = bytes[at + i]!;
    bytes[at + 8 + i] = (bytes[at + 8 + i]! & 15) * 17;
  }
}

/** Makes a valid block of the noise in `bytes`, of scales drawn by `draw`. */
function fixBlock(type: GgufType, bytes: Uint8Array, at: number, draw: number): void {
  const pick = 2 * (draw >>> 26);
  switch (type) {
    case "Q8_0":
      put16(bytes, at, Q8_0[pick]!);
      // Signed, of 7 bits: -64 to 63, as no quantiser gives -128 and kernels rely on it.
      for (let i = at + 2; i < at + 34; i++) bytes[i] = bytes[i]! & 0x7f | (bytes[i]! & 0x40) << 1;
      break;
    case "Q4_0":
      put16(bytes, at, Q4_0[pick]!);
      // -7 to 7: with -8 the mean would not be zero.
      for (let i = at + 2; i < at + 18; i++) {
        if ((bytes[i]! & 15) === 0) bytes[i] = bytes[i]! | 8;
        if (bytes[i]! >> 4 === 0) bytes[i] = bytes[i]! | 128;
      }
      break;
    case "Q4_K":
    case "Q5_K": {
      const table = type === "Q4_K" ? Q4_K : Q5_K;
      put16(bytes, at, table[pick]!);
      put16(bytes, at + 2, table[pick + 1]!);
      kScales(bytes, at + 4);
      break;
    }
    case "Q6_K":
      // 128 bytes of low bits, 64 of high ones, 16 signed scales of 6 bits, the scale of them all.
      for (let i = at + 192; i < at + 208; i++) bytes[i] = bytes[i]! & 0x3f | (bytes[i]! & 0x20) * 6;
      put16(bytes, at + 208, Q6_K[pick]!);
      break;
    default:
      throw new Error(`making random blocks of ${type}: it has no blocks`);
  }
}

/** Fills `bytes`, a whole number of blocks of `type`, 4-byte aligned, with random weights. */
export function fillRandom(type: GgufType, bytes: Uint8Array<ArrayBuffer>, noise: Noise): void {
  const float = FLOATS[type];
  if (float !== undefined) return noise.fill(bytes, float[0], float[1]);
  noise.fill(bytes);
  const size = GGUF_TYPES[type].bytes;
  for (let at = 0; at < bytes.length; at += size) fixBlock(type, bytes, at, noise.next());
}
