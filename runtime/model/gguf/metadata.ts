/**
 * The key-value pairs of a GGUF file.
 *
 * @module
 */
import { ModelError } from "../../errors.ts";

/** Types of values, by their numbers in the file. */
export const ValueType = {
  U8: 0,
  I8: 1,
  U16: 2,
  I16: 3,
  U32: 4,
  I32: 5,
  F32: 6,
  BOOL: 7,
  STRING: 8,
  ARRAY: 9,
  U64: 10,
  I64: 11,
  F64: 12,
} as const;

/** Bytes of a value of each type that has a fixed size. */
export const VALUE_BYTES: Readonly<Record<number, number>> = {
  [ValueType.U8]: 1,
  [ValueType.I8]: 1,
  [ValueType.U16]: 2,
  [ValueType.I16]: 2,
  [ValueType.U32]: 4,
  [ValueType.I32]: 4,
  [ValueType.F32]: 4,
  [ValueType.BOOL]: 1,
  [ValueType.U64]: 8,
  [ValueType.I64]: 8,
  [ValueType.F64]: 8,
};

/** An array as it lies in the file: a vocabulary's are read only by those who need them. */
export interface RawArray {
  type: number;
  count: number;
  /** Its elements; a string is its length in 8 bytes, then UTF-8. */
  bytes: Uint8Array;
}

/** What a key may hold. */
export type Value = number | boolean | string | RawArray;

/** A number or flag at `at`; 64-bit integers lose what lies beyond 2^53. */
export function readScalar(view: DataView, type: number, at: number): number | boolean {
  switch (type) {
    case ValueType.U8:
      return view.getUint8(at);
    case ValueType.I8:
      return view.getInt8(at);
    case ValueType.U16:
      return view.getUint16(at, true);
    case ValueType.I16:
      return view.getInt16(at, true);
    case ValueType.U32:
      return view.getUint32(at, true);
    case ValueType.I32:
      return view.getInt32(at, true);
    case ValueType.F32:
      return view.getFloat32(at, true);
    case ValueType.BOOL:
      return view.getUint8(at) !== 0;
    case ValueType.U64:
      return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
    case ValueType.I64:
      return view.getUint32(at, true) + view.getInt32(at + 4, true) * 2 ** 32;
    default:
      return view.getFloat64(at, true);
  }
}

/** Keys and values, by type. Every method throws a ModelError naming file and key for a value of another type. */
export class GgufMetadata {
  readonly #path: string;
  readonly #values: ReadonlyMap<string, Value>;

  constructor(path: string, values: ReadonlyMap<string, Value>) {
    this.#path = path;
    this.#values = values;
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  string(key: string): string | undefined {
    const value = this.#values.get(key);
    if (value === undefined || typeof value === "string") return value;
    throw this.error(key, "a string");
  }

  boolean(key: string): boolean | undefined {
    const value = this.#values.get(key);
    if (value === undefined || typeof value === "boolean") return value;
    throw this.error(key, "true or false");
  }

  number(key: string): number | undefined {
    const value = this.#values.get(key);
    if (value === undefined || typeof value === "number") return value;
    throw this.error(key, "a number");
  }

  /** A number that has to be there. */
  requiredNumber(key: string): number {
    const value = this.number(key);
    if (value === undefined) throw this.error(key, "a number");
    return value;
  }

  /** A whole number of 1 at least that has to be there. */
  count(key: string): number {
    const value = this.requiredNumber(key);
    if (!Number.isSafeInteger(value) || value < 1) throw this.error(key, "a whole number of 1 at least");
    return value;
  }

  /** The elements of an array of numbers or flags. */
  numbers(key: string): Float64Array | undefined {
    const array = this.#array(key);
    if (array === undefined) return undefined;
    const { type, count, bytes } = array;
    const size = VALUE_BYTES[type];
    if (size === undefined) throw this.error(key, "an array of numbers");
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const numbers = new Float64Array(count);
    for (let i = 0; i < count; i++) numbers[i] = Number(readScalar(view, type, i * size));
    return numbers;
  }

  /** The elements of an array of strings. */
  strings(key: string): string[] | undefined {
    const array = this.#array(key);
    if (array === undefined) return undefined;
    if (array.type !== ValueType.STRING) throw this.error(key, "an array of strings");
    return decodeStrings(array);
  }

  /** The error for a key whose value is not `wanted`. */
  error(key: string, wanted: string): ModelError {
    return new ModelError(`${this.#path}: ${key} is ${this.#shown(key)}, wanted ${wanted}`);
  }

  #array(key: string): RawArray | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    if (typeof value !== "object") throw this.error(key, "an array");
    return value;
  }

  #shown(key: string): string {
    const value = this.#values.get(key);
    if (value === undefined) return "missing";
    return typeof value === "object" ? `an array of ${value.count} elements` : JSON.stringify(value);
  }
}

/** Takes the place of a string's length: eight bytes that no token holds, and whose end is not their beginning. */
const SEPARATOR = "\x01\x01\x01\x01\x01\x01\x01\x02";

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * All strings of an array by one call of the decoder: one call for each takes ten times as long, and a vocabulary
 * has hundreds of thousands of them.
 */
function decodeStrings({ count, bytes }: RawArray): string[] {
  if (count === 0) return [];
  const joined = bytes.slice();
  const view = new DataView(joined.buffer);
  let at = 0;
  for (let i = 0; i < count; i++) {
    const length = view.getUint32(at, true);
    view.setUint32(at, 0x01010101, true);
    view.setUint32(at + 4, 0x02010101, true);
    at += 8 + length;
  }
  const strings = utf8.decode(joined).split(SEPARATOR);
  strings.shift(); // before the first
  return strings.length === count ? strings : decodeOneByOne(bytes, count);
}

function decodeOneByOne(bytes: Uint8Array, count: number): string[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const strings: string[] = [];
  for (let at = 0; strings.length < count;) {
    const end = at + 8 + view.getUint32(at, true);
    strings.push(utf8.decode(bytes.subarray(at + 8, end)));
    at = end;
  }
  return strings;
}
