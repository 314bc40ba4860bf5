import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { EventReader } from "./events.ts";
import { casesText, parseCases, parseRows } from "./kernel_case.ts";
import { bestFlags, findLlamaCpp, parseBatched } from "./llama_cpp.ts";
import { type WeightMix, writeRandomGguf } from "./random_gguf.ts";
import { replayOverHttp, summariseReplay } from "./replay.ts";
import { outputOf } from "./process.ts";
import { kvrm, llamaServer, modelName, startPeer, vllm } from "./servers.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

const STREAM = [
  'data: {"choices":[{"text":"","index":0}]}\n\n',
  'data: {"choices":[{"text":"a b","index":0}]}\n\ndata: {"choices":[{"index":0, "text": " \\"c"}]}\r\n\r\n',
  ": a comment\n\n",
  'data: {"choices":[{"delta":{"content":"ä"}}]}\n\n',
  'data: {"choices":[{"delta":{"content":null}}],"usage":{"completion_tokens": 17}}\n\ndata: [DONE]\n\n',
].join("");

Deno.test("EventReader counts the events that carry text, wherever the stream is cut", () => {
  const bytes = new TextEncoder().encode(STREAM);
  for (let size = 1; size <= bytes.length; size++) {
    const reader = new EventReader();
    let count = 0;
    for (let at = 0; at < bytes.length; at += size) count += reader.push(bytes.subarray(at, at + size));
    assertEquals([size, count, reader.completionTokens], [size, 3, 17]);
  }
});

Deno.test("parseBatched() reads llama-batched-bench's table, of a line that did not run too", () => {
  const text = `llama_model_load: something | with a bar | in it
|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |
|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
|    32 |     32 |    4 |    256 |    0.383 |   333.92 |    1.280 |    99.97 |    1.664 |   153.88 |
|   128 |      0 |    1 |    128 |    0.424 |   302.22 |    0.000 |      nan |    0.454 |   283.88 |
`;
  assertEquals(parseBatched(text), [
    { prompt: 32, answer: 32, batch: 4, prefill: 333.92, decode: 99.97 },
    { prompt: 128, answer: 0, batch: 1, prefill: 302.22, decode: NaN },
  ]);
  assertThrows(() => parseBatched("error: unable to load model"), Error, "found no table");
});

Deno.test("bestFlags() takes what the program knows", () => {
  const fork = "  -t, --threads N\n  -rtr,  --run-time-repack  repack\n  -fa,   --flash-attn (default: on)";
  assertEquals(bestFlags(fork, 2), ["-t", "2", "-rtr"]);
  const mainline = "  -t, --threads N\n  -fa,   --flash-attn [on|off|auto]   set Flash Attention use";
  assertEquals(bestFlags(mainline, 4), ["-t", "4", "-fa", "on"]);
});

Deno.test("findLlamaCpp() says which program is not there", async () => {
  await assertRejects(() => findLlamaCpp(`${ROOT}no/llama-server`, 2), Error, "no/llama-server is no file");
});

Deno.test("parseCases() undoes casesText() and refuses what is no case", () => {
  const cases = [{ prompt: 32, answer: 0, batch: 16 }, { prompt: 1, answer: 8, batch: 1 }];
  assertEquals(parseCases(casesText(cases)), cases);
  assertThrows(() => parseCases("32:8:1,32:8"), RangeError, "the case 32:8: wanted PROMPT:ANSWER:BATCH");
});

Deno.test("parseRows() has NaN again for what JSON could not say", () => {
  const row = { prompt: 1, answer: 0, batch: 1, prefill: 10, decode: NaN };
  assertEquals(parseRows(JSON.stringify({ rows: [row] })), { rows: [row], bandwidth: NaN });
});

Deno.test("summariseReplay() counts the queue in TTFT and leaves failures out", () => {
  const values = summariseReplay([
    { arrivalMs: 0, sentMs: 0, eventMs: [100, 110, 130], tokens: 4 },
    { arrivalMs: 50, sentMs: 51, eventMs: [1000, 2000], tokens: 2 },
    { arrivalMs: 60, sentMs: 60, eventMs: [], tokens: 0, error: "500" },
  ]);
  assertEquals(values, {
    seconds: 2,
    requests: 3,
    failed: 1,
    "tokens/s": 3,
    "tokens/event": 6 / 5,
    "ttft p50": 100,
    "ttft p99": 950,
    "itl p50": 20,
    "itl p99": 1000,
    "itl max": 1000,
    "client late ms": 1,
  });
});

Deno.test("startPeer() and replayOverHttp() measure this repository's server", async () => {
  const setup = { model: `${ROOT}models/tiny`, slots: 2, context: 256, threads: 1 };
  await using server = await startPeer(kvrm(), setup);
  assert(server.firstTextMs > 0);
  const requests = [5, 12, 9].map((maxTokens, i) => ({
    arrivalMs: 10 * i,
    prompt: [300, 301 + i],
    maxTokens,
  }));
  const model = await modelName(server.address);
  const plan = { address: server.address, model, requests, limitMs: 60_000 };
  const results = await replayOverHttp(plan);
  assertEquals(results.map(({ tokens, error }) => [tokens, error]), [[5, undefined], [12, undefined], [
    9,
    undefined,
  ]]);
  for (const { arrivalMs, sentMs, eventMs } of results) {
    assert(sentMs >= arrivalMs && eventMs[0]! >= sentMs && eventMs.length > 0);
    assertEquals(eventMs, eventMs.toSorted((a, b) => a - b));
  }
  const [refused] = await replayOverHttp({ ...plan, model: "another", requests: requests.slice(0, 1) });
  assert(refused!.error!.startsWith("404"), refused!.error);
});

Deno.test("startPeer() says why a server did not start", async () => {
  const setup = { model: `${ROOT}models/none`, slots: 1, context: 64, threads: 1 };
  await assertRejects(() => startPeer(kvrm(), setup), Error, "models/none");
});

Deno.test("llamaServer() gives the context of all slots together, as kvrm() and vllm() give that of one", () => {
  const setup = { model: "m.gguf", slots: 8, context: 1024, threads: 2 };
  const args = (recipe: ReturnType<typeof kvrm>) => recipe.command(setup, 9).args.join(" ");
  assert(args(kvrm()).includes("--slots=8 --max-context=1024 --threads=2"));
  // llama.cpp divides its context among the slots.
  assert(args(llamaServer("s", ["-t", "2"])).endsWith("-c 8192 -np 8 -t 2"));
  assert(args(vllm()).endsWith("--max-num-seqs 8 --max-model-len 1024"));
});

for (const mix of ["F16", "Q8_0", "Q4_K_M"] satisfies WeightMix[]) {
  Deno.test(`kvrm_kernel.ts measures a random GGUF file in ${mix}`, async () => {
    const path = await Deno.makeTempFile({ suffix: ".gguf" });
    try {
      const shape = { hidden: 256, layers: 2, heads: 4, kvHeads: 2, intermediate: 512, vocab: 600 };
      writeRandomGguf(path, shape, mix);
      const cases = [{ prompt: 20, answer: 4, batch: 3 }, { prompt: 70, answer: 0, batch: 1 }];
      const script = `${ROOT}bench/peers/kvrm_kernel.ts`;
      const args = ["run", "--no-prompt", "--no-check", "--allow-all", "--cached-only", script, path, "1"];
      const { rows, bandwidth } = parseRows(await outputOf(Deno.execPath(), [...args, casesText(cases)]));
      assertEquals(rows.map(({ prompt, answer, batch }) => ({ prompt, answer, batch })), cases);
      assert(rows[0]!.decode > 0 && rows[0]!.prefill > 0 && rows[1]!.prefill > 0 && bandwidth > 0);
      assert(Number.isNaN(rows[1]!.decode));
    } finally {
      await Deno.remove(path);
    }
  });
}
