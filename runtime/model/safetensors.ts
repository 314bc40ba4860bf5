/**
 * Headers of safetensors files. Ours, because `@huggingface/hub`'s parser reads through Blobs and HTTP
 * ranges, checks no offsets and costs 20 ms to import; this one reads 8 bytes and the header.
 *
 * Format: https://github.com/huggingface/safetensors#format
 *
 * @module
 */
import { ModelError } from "../errors.ts";
import { messageOf, parseJson } from "./json.ts";

/** One tensor of a file. */
export interface TensorEntry {
  /** As the file names it, for example "BF16". */
  dtype: string;
  shape: readonly number[];
  /** Bytes from the start of the file. */
  offset: number;
  bytes: number;
}

/** Same limit as the reference implementation. */
const MAX_HEADER_BYTES = 100_000_000;

/** Bytes per element of the types of the format; the runtime uses a few of them. */
const ELEMENT_BYTES: Readonly<Record<string, number>> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  I64: 8,
  U64: 8,
  F64: 8,
  C64: 8,
};

/**
 * Reads the header of a safetensors file: tensor name to entry, in the file's order. Only the header is read.
 * Throws a ModelError naming the file, and the tensor where one is at fault, for a file that is missing,
 * truncated or too long, a malformed header, an unknown type, or offsets that do not fit type and shape.
 */
export async function readSafetensorsHeader(path: string): Promise<Map<string, TensorEntry>> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new ModelError(`${path} is missing`, { cause: error });
    throw new ModelError(`cannot open ${path}: ${messageOf(error)}`, { cause: error });
  }
  using _ = file;
  // Not file.stat(): that asks for the permission to read what a link in the path stands for.
  const size = (await Deno.stat(path)).size;
  if (size < 8) throw new ModelError(`${path} is truncated: ${size} bytes, wanted at least 8`);
  const prefix = await readExactly(file, 8);
  const length = Number(new DataView(prefix.buffer).getBigUint64(0, true));
  if (length > MAX_HEADER_BYTES) {
    throw new ModelError(
      `${path} is no safetensors file: a header of ${length} bytes, at most ${MAX_HEADER_BYTES}`,
    );
  }
  const start = 8 + length;
  if (start > size) {
    throw new ModelError(`${path} is truncated: ${size} bytes, its header alone needs ${start}`);
  }
  const text = new TextDecoder().decode(await readExactly(file, length));
  const header = parseJson(text, `the header of ${path}`);
  if (header === null || typeof header !== "object" || Array.isArray(header)) {
    throw new ModelError(`the header of ${path} is no JSON object`);
  }

  const tensors = new Map<string, TensorEntry>();
  let end = start;
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const entry = parseEntry(value, start, `${path}: tensor ${name}`);
    tensors.set(name, entry);
    end = Math.max(end, entry.offset + entry.bytes);
  }
  if (end > size) throw new ModelError(`${path} is truncated: ${size} bytes, its tensors need ${end}`);
  if (end < size) throw new ModelError(`${path} is damaged: ${size} bytes, its tensors account for ${end}`);
  return tensors;
}

function parseEntry(value: unknown, start: number, what: string): TensorEntry {
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
  const isSize = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
  if (typeof dtype !== "string" || !Array.isArray(shape) || !shape.every(isSize)) {
    throw new ModelError(
      `${what}: dtype and shape are ${JSON.stringify(dtype)} and ${JSON.stringify(shape)}`,
    );
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    throw new ModelError(`${what}: data_offsets is ${JSON.stringify(offsets)}, wanted [begin, end]`);
  }
  const elementBytes = Object.hasOwn(ELEMENT_BYTES, dtype) ? ELEMENT_BYTES[dtype] : undefined;
  if (elementBytes === undefined) throw new ModelError(`${what}: unknown dtype ${JSON.stringify(dtype)}`);
  const [begin, end] = offsets as [number, number];
  const wanted = shape.reduce((product, n) => product * n, elementBytes);
  if (end - begin !== wanted) {
    throw new ModelError(
      `${what}: data_offsets [${begin}, ${end}] hold ${
        end - begin
      } bytes, ${dtype} [${shape}] needs ${wanted}`,
    );
  }
  return { dtype, shape, offset: start + begin, bytes: wanted };
}

async function readExactly(file: Deno.FsFile, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length;) {
    const n = await file.read(bytes.subarray(at));
    if (n === null) throw new ModelError(`a file ended after ${at} of ${length} bytes while it was read`);
    at += n;
  }
  return bytes;
}
