/**
 * Writes GGUF files, version 3, as llama.cpp reads them: header, metadata, the table of tensors, then their data, each
 * tensor at a multiple of 32 bytes. Data is asked for piece by piece, so a file may be larger than the memory.
 * Layout: ggml/docs/gguf.md of https://github.com/ggml-org/ggml.
 *
 * @module
 */

/** Each type's number in the file, the values of one block, and the block's bytes. */
export const GGUF_TYPES = {
  F32: { id: 0, values: 1, bytes: 4 },
  F16: { id: 1, values: 1, bytes: 2 },
  Q4_0: { id: 2, values: 32, bytes: 18 },
  Q8_0: { id: 8, values: 32, bytes: 34 },
  Q4_K: { id: 12, values: 256, bytes: 144 },
  Q5_K: { id: 13, values: 256, bytes: 176 },
  Q6_K: { id: 14, values: 256, bytes: 210 },
  BF16: { id: 30, values: 1, bytes: 2 },
} as const;

/** A type that tensors may have. */
export type GgufType = keyof typeof GGUF_TYPES;

/** One value of the metadata; numbers say their type, as the readers look for one. */
export type GgufValue =
  | string
  | boolean
  | { u32: number }
  | { f32: number }
  | { strings: readonly string[] }
  | { f32s: ArrayLike<number> }
  | { i32s: ArrayLike<number> };

/** A tensor to be written. */
export interface GgufTensor {
  name: string;
  type: GgufType;
  /** [rows, columns], or [values]: the last one is contiguous. Blocks lie along it. */
  shape: readonly number[];
  /** Fills `bytes`, whole rows of the tensor, the first of which is `row`. */
  fill(bytes: Uint8Array<ArrayBuffer>, row: number): void;
}

const ALIGNMENT = 32;
const CHUNK_BYTES = 8 << 20;

/** Bytes of one row. @throws {RangeError} where rows are no whole number of blocks */
export function rowBytes(type: GgufType, columns: number): number {
  const { values, bytes } = GGUF_TYPES[type];
  if (columns % values !== 0) {
    throw new RangeError(`writing a row of ${columns} values as ${type}: wanted a multiple of ${values}`);
  }
  return columns / values * bytes;
}

/** A buffer that grows. */
class Bytes {
  #bytes = new Uint8Array(1 << 16);
  #view = new DataView(this.#bytes.buffer);
  length = 0;

  #room(count: number): void {
    if (this.length + count <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(2 * this.#bytes.length, this.length + count));
    larger.set(this.#bytes);
    this.#bytes = larger;
    this.#view = new DataView(larger.buffer);
  }

  u32(value: number): void {
    this.#room(4);
    this.#view.setUint32(this.length, value, true);
    this.length += 4;
  }

  i32(value: number): void {
    this.u32(value);
  }

  f32(value: number): void {
    this.#room(4);
    this.#view.setFloat32(this.length, value, true);
    this.length += 4;
  }

  u64(value: number): void {
    this.u32(value % 2 ** 32);
    this.u32(Math.floor(value / 2 ** 32));
  }

  raw(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  text(value: string): void {
    const bytes = new TextEncoder().encode(value);
    this.u64(bytes.length);
    this.raw(bytes);
  }

  done(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.length);
  }
}

// The types of metadata values.
const U32 = 4, I32 = 5, F32 = 6, BOOL = 7, STRING = 8, ARRAY = 9;

function array(out: Bytes, type: number, count: number): void {
  out.u32(ARRAY);
  out.u32(type);
  out.u64(count);
}

function value(out: Bytes, one: GgufValue): void {
  if (typeof one === "string") {
    out.u32(STRING);
    out.text(one);
  } else if (typeof one === "boolean") {
    out.u32(BOOL);
    out.raw(Uint8Array.of(one ? 1 : 0));
  } else if ("u32" in one) {
    out.u32(U32);
    out.u32(one.u32);
  } else if ("f32" in one) {
    out.u32(F32);
    out.f32(one.f32);
  } else if ("strings" in one) {
    array(out, STRING, one.strings.length);
    for (const text of one.strings) out.text(text);
  } else if ("f32s" in one) {
    array(out, F32, one.f32s.length);
    for (let i = 0; i < one.f32s.length; i++) out.f32(one.f32s[i]!);
  } else {
    array(out, I32, one.i32s.length);
    for (let i = 0; i < one.i32s.length; i++) out.i32(one.i32s[i]!);
  }
}

function aligned(offset: number): number {
  return Math.ceil(offset / ALIGNMENT) * ALIGNMENT;
}

function tensorBytes({ type, shape }: GgufTensor): number {
  const columns = shape[shape.length - 1]!;
  return shape.slice(0, -1).reduce((a, b) => a * b, 1) * rowBytes(type, columns);
}

function writeAll(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
}

/**
 * Writes a file; returns its size in bytes.
 *
 * @throws {RangeError} a row that is no whole number of its type's blocks
 */
export function writeGguf(
  path: string,
  metadata: Readonly<Record<string, GgufValue>>,
  tensors: readonly GgufTensor[],
): number {
  const head = new Bytes();
  head.raw(new TextEncoder().encode("GGUF"));
  head.u32(3);
  head.u64(tensors.length);
  head.u64(Object.keys(metadata).length);
  for (const [key, one] of Object.entries(metadata)) {
    head.text(key);
    value(head, one);
  }
  let offset = 0;
  for (const tensor of tensors) {
    head.text(tensor.name);
    head.u32(tensor.shape.length);
    // ggml names the contiguous dimension first.
    for (const size of tensor.shape.toReversed()) head.u64(size);
    head.u32(GGUF_TYPES[tensor.type].id);
    head.u64(offset);
    offset = aligned(offset + tensorBytes(tensor));
  }
  head.raw(new Uint8Array(aligned(head.length) - head.length));

  using file = Deno.openSync(path, { write: true, create: true, truncate: true });
  writeAll(file, head.done());
  const chunk = new Uint8Array(CHUNK_BYTES);
  for (const tensor of tensors) {
    const total = tensorBytes(tensor);
    const row = rowBytes(tensor.type, tensor.shape[tensor.shape.length - 1]!);
    const atOnce = Math.max(1, Math.floor(CHUNK_BYTES / row));
    const buffer = row > CHUNK_BYTES ? new Uint8Array(row) : chunk;
    for (let first = 0; first * row < total; first += atOnce) {
      const bytes = buffer.subarray(0, Math.min(atOnce * row, total - first * row));
      tensor.fill(bytes, first);
      writeAll(file, bytes);
    }
    writeAll(file, new Uint8Array(aligned(total) - total));
  }
  return head.length + offset;
}
