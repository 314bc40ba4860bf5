/**
 * Headers of GGUF files. Ours, because `@huggingface/gguf` takes seconds for a vocabulary of 128,000 tokens and
 * fills what a truncated file lacks with zeros; docs/decisions.md has the figures.
 *
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * @module
 */
import { ModelError } from "../../errors.ts";
import { messageOf } from "../json.ts";
import { GgufMetadata, readScalar, type Value, VALUE_BYTES, ValueType } from "./metadata.ts";
import { type GgmlType, ggmlType } from "./types.ts";

/** One tensor of a file. */
export interface GgufTensor {
  /** Null for a type that this program has no name for. */
  type: GgmlType | null;
  /** The type's number in the file. */
  typeId: number;
  /** Row-major: [rows, cols], or [n]. The file lists them the other way round. */
  shape: readonly number[];
  /** Bytes from the start of the file. */
  offset: number;
  /** 0 for a type without a name. */
  bytes: number;
}

/** The header of a file. */
export interface GgufHeader {
  path: string;
  metadata: GgufMetadata;
  /** In the file's order. */
  tensors: Map<string, GgufTensor>;
}

const MAGIC = 0x46554747; // "GGUF"
const DEFAULT_ALIGNMENT = 32;
const MAX_DIMENSIONS = 4;
/** What is read first: the header of a model of 32,000 tokens, give or take. */
const FIRST_READ = 1 << 20;

/**
 * Reads the header of a GGUF file of version 2 or 3; the weights are not read. Throws a ModelError naming the file,
 * and the key or tensor where one is at fault, for a file that is missing, none of GGUF, truncated or inconsistent.
 */
export function readGgufHeader(path: string): GgufHeader {
  using cursor = Cursor.open(path);
  const tensorCount = readPreamble(cursor, path);
  const keys = cursor.count("its number of keys", 12);
  const values = new Map<string, Value>();
  for (let i = 0; i < keys; i++) {
    const key = cursor.string();
    values.set(key, readValue(cursor, cursor.u32(), key));
  }
  const metadata = new GgufMetadata(path, values);

  const infos: [string, Omit<GgufTensor, "offset">, number][] = [];
  for (let i = 0; i < tensorCount; i++) {
    const name = cursor.string();
    const shape = readShape(cursor, name);
    const typeId = cursor.u32();
    const type = ggmlType(typeId);
    infos.push([name, { type, typeId, shape, bytes: tensorBytes(cursor, name, type, shape) }, cursor.u64()]);
  }

  const alignment = metadata.number("general.alignment") ?? DEFAULT_ALIGNMENT;
  if (!Number.isInteger(alignment) || alignment < 1) {
    throw metadata.error("general.alignment", "a whole number of 1 at least");
  }
  const start = Math.ceil(cursor.at / alignment) * alignment;
  const tensors = new Map<string, GgufTensor>();
  for (const [name, info, relative] of infos) {
    const offset = start + relative;
    if (tensors.has(name)) throw cursor.error(`tensor ${name} is there twice`);
    if (relative % alignment !== 0) {
      throw cursor.error(`tensor ${name} lies at ${relative}, wanted a multiple of ${alignment}`);
    }
    if (offset + info.bytes > cursor.size) {
      throw new ModelError(
        `${path} is truncated: ${cursor.size} bytes, tensor ${name} goes on to ${offset + info.bytes}`,
      );
    }
    tensors.set(name, { ...info, offset });
  }
  return { path, metadata, tensors };
}

/** Magic, version and the number of tensors, which it returns. */
function readPreamble(cursor: Cursor, path: string): number {
  if (cursor.size < 4 || cursor.u32() !== MAGIC) {
    throw new ModelError(`${path} is no GGUF file: it begins with ${cursor.beginning()}, wanted "GGUF"`);
  }
  const version = cursor.u32();
  if (version !== 2 && version !== 3) {
    const swapped = version > 0xffff ? " (a big-endian file)" : "";
    throw cursor.error(`its version is ${version}${swapped}, wanted 2 or 3`);
  }
  return cursor.count("its number of tensors", 24);
}

function readValue(cursor: Cursor, type: number, key: string): Value {
  if (type === ValueType.STRING) return cursor.string();
  if (type === ValueType.ARRAY) {
    const element = cursor.u32();
    const size = VALUE_BYTES[element];
    if (size === undefined && element !== ValueType.STRING) {
      throw cursor.error(`${key} is an array of type ${element}, wanted numbers, flags or strings`);
    }
    const count = cursor.count(`the length of ${key}`, size ?? 8);
    const start = cursor.at;
    if (size !== undefined) cursor.skip(count * size);
    else for (let i = 0; i < count; i++) cursor.skip(cursor.u64());
    return { type: element, count, bytes: cursor.since(start) };
  }
  const size = VALUE_BYTES[type];
  if (size === undefined) throw cursor.error(`${key} has the type ${type}, wanted one of 0 to 12`);
  return cursor.scalar(type, size);
}

function readShape(cursor: Cursor, name: string): number[] {
  const dimensions = cursor.u32();
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS) {
    throw cursor.error(`tensor ${name} has ${dimensions} dimensions, wanted 1 to ${MAX_DIMENSIONS}`);
  }
  const shape: number[] = [];
  for (let i = 0; i < dimensions; i++) shape.unshift(cursor.u64());
  return shape;
}

function tensorBytes(cursor: Cursor, name: string, type: GgmlType | null, shape: readonly number[]): number {
  if (type === null) return 0;
  const cols = shape.at(-1)!;
  if (cols % type.elements !== 0) {
    throw cursor.error(
      `tensor ${name} has rows of ${cols}, ${type.name} wants a multiple of ${type.elements}`,
    );
  }
  const bytes = shape.reduce((a, b) => a * b, 1) / type.elements * type.bytes;
  if (!Number.isSafeInteger(bytes)) throw cursor.error(`tensor ${name} has the shape [${shape.join(", ")}]`);
  return bytes;
}

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * Reads a file from its beginning on, and remembers all of it. Synchronously, because most files' headers are a
 * megabyte of the page cache, and because a value is then a function call and no promise.
 */
class Cursor implements Disposable {
  /** Bytes from the start of the file. */
  at = 0;
  readonly size: number;
  readonly #path: string;
  readonly #file: Deno.FsFile;
  #bytes = new Uint8Array(0);
  #view = new DataView(this.#bytes.buffer);
  /** Bytes that were read. */
  #filled = 0;

  private constructor(path: string, file: Deno.FsFile, size: number) {
    this.#path = path;
    this.#file = file;
    this.size = size;
  }

  static open(path: string): Cursor {
    try {
      // Not file.statSync(): that asks for the permission to read what a link in the path stands for.
      const size = Deno.statSync(path).size;
      return new Cursor(path, Deno.openSync(path), size);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) throw new ModelError(`${path} is missing`, { cause: error });
      throw new ModelError(`cannot open ${path}: ${messageOf(error)}`, { cause: error });
    }
  }

  u32(): number {
    this.#need(4);
    const value = this.#view.getUint32(this.at, true);
    this.at += 4;
    return value;
  }

  u64(): number {
    return this.scalar(ValueType.U64, 8) as number;
  }

  scalar(type: number, size: number): number | boolean {
    this.#need(size);
    const value = readScalar(this.#view, type, this.at);
    this.at += size;
    return value;
  }

  string(): string {
    const length = this.u64();
    const start = this.at;
    this.skip(length);
    return utf8.decode(this.since(start));
  }

  /** A number of things that take `bytes` each at least: more than the file can hold is an error. */
  count(what: string, bytes: number): number {
    const value = this.u64();
    if (value * bytes > this.size - this.at) {
      throw new ModelError(`${this.#path} is truncated or damaged: ${this.size} bytes, ${what} is ${value}`);
    }
    return value;
  }

  skip(bytes: number): void {
    this.#need(bytes);
    this.at += bytes;
  }

  /** What was passed from `start` on. */
  since(start: number): Uint8Array {
    return this.#bytes.subarray(start, this.at);
  }

  /** The file's first bytes, to show. */
  beginning(): string {
    return JSON.stringify(String.fromCharCode(...this.#bytes.subarray(0, Math.min(4, this.#filled))));
  }

  error(sentence: string): ModelError {
    return new ModelError(`${this.#path}: ${sentence}`);
  }

  #need(bytes: number): void {
    const end = this.at + bytes;
    if (end <= this.#filled) return;
    if (end > this.size) {
      throw new ModelError(`${this.#path} is truncated: ${this.size} bytes, its header goes on to ${end}`);
    }
    const grown = new Uint8Array(Math.min(this.size, Math.max(FIRST_READ, end, 2 * this.#bytes.length)));
    grown.set(this.#bytes.subarray(0, this.#filled));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
    while (this.#filled < grown.length) {
      const read = this.#file.readSync(grown.subarray(this.#filled));
      if (read === null) {
        throw new ModelError(`${this.#path} ended after ${this.#filled} bytes while it was read`);
      }
      this.#filled += read;
    }
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}
