import { assert, assertEquals, assertThrows } from "@std/assert";
import { GGUF_TYPES, type GgufType, type GgufValue, rowBytes, writeGguf } from "./gguf_writer.ts";
import {
  FIRST_TEXT_TOKEN,
  type LlamaShape,
  streamedBytes,
  type WeightMix,
  writeRandomGguf,
} from "./random_gguf.ts";

const SHAPE: LlamaShape = { hidden: 256, layers: 8, heads: 4, kvHeads: 2, intermediate: 512, vocab: 450 };

interface ReadTensor {
  shape: number[];
  type: GgufType;
  bytes: Uint8Array;
}

/** A reader of just what the writer writes. */
function read(
  path: string,
): { metadata: Map<string, unknown>; tensors: Map<string, ReadTensor>; size: number } {
  const bytes = Deno.readFileSync(path);
  const view = new DataView(bytes.buffer);
  let at = 0;
  const u32 = () => view.getUint32((at += 4) - 4, true);
  const u64 = () => Number(view.getBigUint64((at += 8) - 8, true));
  const text = () => {
    const length = u64();
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(at, at += length));
  };
  const of = (type: number): unknown => {
    if (type === 4) return u32();
    if (type === 5) return view.getInt32((at += 4) - 4, true);
    if (type === 6) return view.getFloat32((at += 4) - 4, true);
    if (type === 7) return bytes[at++] === 1;
    if (type === 8) return text();
    assertEquals(type, 9);
    const inner = u32();
    return Array.from({ length: u64() }, () => of(inner));
  };
  assertEquals(new TextDecoder().decode(bytes.subarray(0, 4)), "GGUF");
  at = 4;
  assertEquals(u32(), 3);
  const tensorCount = u64(), keys = u64();
  const metadata = new Map(Array.from({ length: keys }, () => [text(), of(u32())] as const));
  const table = Array.from({ length: tensorCount }, () => {
    const name = text();
    const shape = Array.from({ length: u32() }, u64).reverse();
    const id = u32();
    const type = (Object.keys(GGUF_TYPES) as GgufType[]).find((key) => GGUF_TYPES[key].id === id)!;
    return { name, shape, type, offset: u64() };
  });
  const data = Math.ceil(at / 32) * 32;
  const tensors = new Map(table.map(({ name, shape, type, offset }) => {
    assertEquals(offset % 32, 0);
    const rows = shape.slice(0, -1).reduce((a, b) => a * b, 1);
    const size = rows * rowBytes(type, shape.at(-1)!);
    assert(data + offset + size <= bytes.length, name);
    return [name, { shape, type, bytes: bytes.subarray(data + offset, data + offset + size) }];
  }));
  return { metadata, tensors, size: bytes.length };
}

/** The values of a tensor, block by block as ggml's scalar code has them. */
function values({ type, bytes }: ReadTensor): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const scratch = new DataView(new ArrayBuffer(4));
  const out: number[] = [];
  const { bytes: size } = GGUF_TYPES[type];
  for (let at = 0; at < bytes.length; at += size) {
    const byte = (i: number) => bytes[at + i]!;
    const half = (i: number) => view.getFloat16(at + i, true);
    if (type === "F32") out.push(view.getFloat32(at, true));
    else if (type === "F16") out.push(half(0));
    else if (type === "BF16") {
      scratch.setUint32(0, view.getUint16(at, true) << 16);
      out.push(scratch.getFloat32(0));
    } else if (type === "Q8_0") { for (let i = 0; i < 32; i++) out.push(half(0) * view.getInt8(at + 2 + i)); }
    else if (type === "Q4_0") {
      for (let i = 0; i < 32; i++) out.push(half(0) * ((byte(2 + i % 16) >> (i < 16 ? 0 : 4) & 15) - 8));
    } else if (type === "Q6_K") {
      for (let i = 0; i < 256; i++) {
        const part = i >> 7, lane = i & 31, quarter = i >> 5 & 3;
        const low = byte(part * 64 + (quarter & 1) * 32 + lane) >> (quarter >> 1) * 4 & 15;
        const high = byte(128 + part * 32 + lane) >> quarter * 2 & 3;
        out.push(half(208) * view.getInt8(at + 192 + (i >> 4)) * ((low | high << 4) - 32));
      }
    } else {
      for (let i = 0; i < 256; i++) {
        const j = i >> 5;
        const scale = j < 4 ? byte(4 + j) & 63 : byte(8 + j) & 15 | byte(j) >> 6 << 4;
        const least = j < 4 ? byte(8 + j) & 63 : byte(8 + j) >> 4 | byte(4 + j) >> 6 << 4;
        const nibbles = type === "Q4_K" ? 16 : 48;
        let q = byte(nibbles + (j >> 1) * 32 + (i & 31)) >> (j & 1) * 4 & 15;
        if (type === "Q5_K") q |= (byte(16 + (i & 31)) >> j & 1) << 4;
        out.push(half(0) * scale * q - half(2) * least);
      }
    }
  }
  return out;
}

async function withFile(body: (path: string) => void): Promise<void> {
  const path = await Deno.makeTempFile({ suffix: ".gguf" });
  try {
    body(path);
  } finally {
    await Deno.remove(path);
  }
}

for (const type of Object.keys(GGUF_TYPES) as GgufType[]) {
  Deno.test(`writeRandomGguf() makes finite weights of mean 0 and deviation near 0.02 in ${type}`, async () => {
    await withFile((path) => {
      writeRandomGguf(path, SHAPE, type);
      const { tensors } = read(path);
      for (const name of ["blk.7.ffn_down", "output"]) {
        const tensor = tensors.get(`${name}.weight`)!;
        assertEquals(tensor.type, type);
        let all = values(tensor);
        if (name === "output") {
          const special = all.slice(0, FIRST_TEXT_TOKEN * SHAPE.hidden);
          assert(special.every((one) => one === 0), "rows of tokens that are no text are zero");
          all = all.slice(special.length);
          for (let row = 0; row < all.length; row += SHAPE.hidden) {
            assert(all.slice(row, row + SHAPE.hidden).some((one) => one !== 0));
          }
        }
        const mean = all.reduce((a, b) => a + b) / all.length;
        const deviation = Math.sqrt(all.reduce((a, b) => a + (b - mean) ** 2, 0) / all.length);
        assert(Math.abs(mean) < 0.001, `${name}: mean ${mean}`);
        assert(deviation > 0.017 && deviation < 0.026, `${name}: deviation ${deviation}`);
      }
      assert(values(tensors.get("blk.3.ffn_norm.weight")!).every((one) => one === 1));
    });
  });
}

Deno.test("writeRandomGguf() writes what describes the model, and the size that it says", async () => {
  await withFile((path) => {
    const size = writeRandomGguf(path, SHAPE, "Q8_0", { name: "a name" });
    const { metadata, tensors, size: found } = read(path);
    assertEquals(found, size);
    assertEquals(metadata.get("general.architecture"), "llama");
    assertEquals(metadata.get("general.name"), "a name");
    assertEquals(metadata.get("llama.attention.head_count_kv"), 2);
    const tokens = metadata.get("tokenizer.ggml.tokens") as string[];
    assertEquals([tokens.length, new Set(tokens).size, tokens[2], tokens[3 + 10]], [
      450,
      450,
      "</s>",
      "<0x0A>",
    ]);
    assertEquals((metadata.get("tokenizer.ggml.scores") as number[]).length, 450);
    assertEquals((metadata.get("tokenizer.ggml.token_type") as number[]).slice(0, 4), [2, 3, 3, 6]);
    assertEquals(tensors.size, 3 + 9 * SHAPE.layers);
    assertEquals(tensors.get("blk.0.attn_k.weight")!.shape, [128, 256]);
  });
});

Deno.test("writeRandomGguf() writes the same bytes for the same seed, and others for another", async () => {
  await withFile((path) => {
    const bytes = (seed: number) => {
      writeRandomGguf(path, SHAPE, "F16", { seed });
      return Deno.readFileSync(path);
    };
    const first = bytes(1);
    assertEquals(first, bytes(1));
    assert(bytes(2).some((byte, i) => byte !== first[i]));
  });
});

Deno.test("writeRandomGguf() has Q6_K where llama.cpp's Q4_K_M has it", async () => {
  await withFile((path) => {
    writeRandomGguf(path, SHAPE, "Q4_K_M");
    const { tensors } = read(path);
    const layersOf = (name: string) =>
      Array.from({ length: 8 }, (_, i) => i).filter((i) =>
        tensors.get(`blk.${i}.${name}.weight`)!.type === "Q6_K"
      );
    assertEquals(layersOf("attn_v"), [0, 3, 6, 7]);
    assertEquals(layersOf("ffn_down"), [0, 3, 6, 7]);
    assertEquals(layersOf("attn_q"), []);
    assertEquals(tensors.get("output.weight")!.type, "Q6_K");
  });
});

Deno.test("streamedBytes() is the file without embedding, tokenizer and header", async () => {
  await withFile((path) => {
    for (const mix of ["F16", "Q4_K_M"] satisfies WeightMix[]) {
      writeRandomGguf(path, SHAPE, mix);
      let sum = 0;
      for (const [name, { bytes }] of read(path).tensors) {
        if (name !== "token_embd.weight") sum += bytes.length;
      }
      assertEquals(streamedBytes(SHAPE, mix), sum);
    }
  });
});

Deno.test("writeGguf() keeps tensors larger than its buffer in order, row by row", async () => {
  await withFile((path) => {
    const rows = 5_000, columns = 1_000;
    const fill = (bytes: Uint8Array<ArrayBuffer>, row: number) => {
      const floats = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
      for (let i = 0; i < floats.length; i++) floats[i] = row * columns + i;
    };
    const metadata: Record<string, GgufValue> = { "a.flag": true, "a.text": "ä€" };
    writeGguf(path, metadata, [
      { name: "odd", type: "F32", shape: [3], fill: (bytes) => void bytes.fill(0) },
      { name: "large", type: "F32", shape: [rows, columns], fill },
    ]);
    const { metadata: found, tensors } = read(path);
    assertEquals(Object.fromEntries(found), { "a.flag": true, "a.text": "ä€" });
    const { bytes } = tensors.get("large")!;
    const floats = new Float32Array(bytes.slice().buffer);
    assertEquals(floats.length, rows * columns);
    assert(floats.every((one, i) => one === i));
  });
});

Deno.test("rowBytes() refuses a row that is no whole number of blocks", () => {
  assertThrows(
    () => rowBytes("Q4_K", 384),
    RangeError,
    "a row of 384 values as Q4_K: wanted a multiple of 256",
  );
});
