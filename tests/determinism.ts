/**
 * The promise that a request's tokens and log probabilities depend on the request alone, to the last bit: as a
 * property, for any model on any backend.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import type { DryOptions } from "../runtime/dry.ts";
import { reservesSlots } from "../runtime/kv/mod.ts";
import type { MirostatOptions } from "../runtime/mirostat.ts";
import type { ModelTables } from "../runtime/model/folder.ts";
import type { EngineOptions } from "../runtime/options.ts";
import { clear, everyToken, type RuleOptions } from "../runtime/rules.ts";
import type { SamplerOptions } from "../runtime/samplers.ts";
import type { SequenceOptions } from "../runtime/sequence.ts";
import { State } from "../runtime/sequence.ts";
import type { KvDtype, KvMode } from "../runtime/types.ts";
import { Bench, type Outcome } from "./harness.ts";

interface Request {
  prompt: number[];
  maxTokens: number;
  sampling: Partial<SequenceOptions>;
}

interface Setting {
  kvMode: KvMode;
  slots: number;
  prefixCache: boolean;
  inFlight: 1 | 2;
  threads: number;
  chunkLimit: number;
  chunkWhileDecoding: number;
  /** Blocks of the pool, as a share of what all slots could use; small ones force preemption. */
  pool: number;
  /** Hold every n-th block so that free runs are short; 0 is off. */
  fragment: number;
  /** Bystanders that come and are cancelled half-way. */
  bystanders: number;
  /** Every n-th turn the last runner is preempted, some times over; 0 is off. */
  preemptEvery: number;
  /** Edits of token states per step. */
  editLimit: number;
}

const MAX_CONTEXT = 256;
const BLOCK = 16;
const VOCAB = 120; // the smallest fixture has 131

const request: fc.Arbitrary<Request> = fc.record({
  // Prompts share prefixes often, so that the prefix cache has something to do.
  prompt: fc.tuple(
    fc.constantFrom(0, 16, 40, 64),
    fc.array(fc.integer({ min: 0, max: VOCAB - 1 }), { minLength: 1, maxLength: 90 }),
  ).map(([shared, rest]) => [...Array.from({ length: shared }, (_, i) => (i * 7 + 3) % VOCAB), ...rest]),
  maxTokens: fc.integer({ min: 1, max: 100 }),
  sampling: fc.record({
    temperature: fc.constantFrom(0, 0.7, 1, 1.5),
    topK: fc.constantFrom(0, 1, 5, 40),
    topP: fc.constantFrom(1, 0.9, 0.3),
    minP: fc.constantFrom(0, 0.05),
    seedLo: fc.nat(),
    seedHi: fc.nat(1000),
    logprobs: fc.constantFrom(1, 4, 21),
    presencePenalty: fc.constantFrom(0, 0, 0, 1.5),
    frequencyPenalty: fc.constantFrom(0, 0, 0, 0.4),
    repetitionPenalty: fc.constantFrom(1, 1, 1, 1.3),
    biases: fc.oneof(
      fc.constant([]),
      fc.uniqueArray(fc.tuple(fc.nat(VOCAB - 1), fc.integer({ min: -9, max: 9 })), {
        maxLength: 30,
        selector: ([token]) => token,
      }),
    ),
  }).map(({ biases, ...rest }) => ({
    ...rest,
    biasTokens: Int32Array.from(biases, ([token]) => token),
    biasValues: Float32Array.from(biases, ([, bias]) => bias),
  })),
});

const setting: fc.Arbitrary<Setting> = fc.record({
  kvMode: fc.constantFrom<KvMode>("kv-rm", "static", "static-padded", "paged"),
  slots: fc.integer({ min: 1, max: 6 }),
  prefixCache: fc.boolean(),
  inFlight: fc.constantFrom<1 | 2>(1, 2),
  threads: fc.integer({ min: 1, max: 3 }),
  chunkLimit: fc.constantFrom(1, 7, 32, 128),
  chunkWhileDecoding: fc.constantFrom(1, 5, 64),
  pool: fc.constantFrom(0.2, 0.5, 1),
  fragment: fc.constantFrom(0, 3, 5),
  bystanders: fc.nat(4),
  preemptEvery: fc.constantFrom(0, 7, 16),
  editLimit: fc.constantFrom(3, 40, 1024),
});

/** What is held to the promise. */
export interface Subject {
  tables: ModelTables;
  dtype: string;
  /** Default "f32". */
  kvDtype?: KvDtype;
  /** What the weights become. Default: nothing. */
  quantize?: EngineOptions["quantize"];
  /** Default: the build beside this program. */
  libraryPath?: string;
  /** Random workloads. Default 150. */
  numRuns?: number;
  /** Of the workloads: where they are few, one whose workloads do everything that is looked for. */
  seed?: number;
  /** Requests of a workload, at most. Default 10. */
  maxRequests?: number;
  /** Tokens of an answer, at most. Default 100. */
  maxTokens?: number;
  /** Options of a far history. Default: there is none. */
  far?: Pick<EngineOptions, "farHistory" | "farWindow" | "farSinks" | "farRows">;
}

function open(model: Subject, on: Setting): Bench {
  const { layers, kvHeads, headDim } = model.tables.config;
  const kvDtype = model.kvDtype ?? "f32";
  const rowBytes = kvHeads * headDim * (kvDtype === "f32" ? 4 : kvDtype === "q8" ? 34 / 32 : 2);
  const blockBytes = BLOCK * layers * 2 * rowBytes;
  const blocks = Math.max(1, reservesSlots(on.kvMode) ? on.slots : on.pool * on.slots) *
    (MAX_CONTEXT / BLOCK);
  // Held blocks must leave room for one sequence of the full context.
  const held = on.fragment > 0 && on.kvMode === "kv-rm" ? 2 * MAX_CONTEXT / BLOCK : 0;
  const extraMaps = on.fragment > 0 && on.kvMode === "kv-rm" ? MAX_CONTEXT / BLOCK : 0;
  const bench = new Bench(
    model.tables,
    model.dtype,
    {
      kvMode: on.kvMode,
      slots: on.slots,
      blockTokens: BLOCK,
      kvMemory: Math.ceil(blocks + held) * blockBytes,
      kvDtype,
      ...(model.quantize && { quantize: model.quantize }),
      ...(model.libraryPath !== undefined && { libraryPath: model.libraryPath }),
      maxContext: MAX_CONTEXT,
      threads: on.threads,
      prefillChunk: 128,
      prefixCache: on.prefixCache,
      inFlight: on.inFlight,
      ...model.far,
    },
    extraMaps,
  );
  bench.host.scheduler.chunkLimit = on.chunkLimit;
  bench.host.scheduler.chunkWhileDecoding = on.chunkWhileDecoding;
  bench.host.scheduler.editLimit = on.editLimit;
  return bench;
}

/** Takes blocks one by one and gives back all but every n-th: the free runs left are short. */
function fragment(bench: Bench, every: number): void {
  const { pager } = bench.host;
  const tokens = new Int32Array(BLOCK);
  const { slots, numBlocks } = bench.sizes.native;
  const limit = Math.min(MAX_CONTEXT / BLOCK, numBlocks - MAX_CONTEXT / BLOCK);
  const maps = [];
  for (let i = 0; i < limit; i++) maps.push(pager.open(slots + i, tokens, BLOCK, false));
  maps.forEach((map, i) => {
    if (map && i % every !== 0) pager.close(map, 0);
  });
  pager.completed(0);
}

/**
 * Rules of a third of the requests that are known in advance, of another's that need the last token: no token may come
 * twice in a row. Made of the seed, so that what is drawn beside them stays as it is.
 */
function rulesOf({ seedLo = 0 }: Partial<SequenceOptions>, vocab: number): RuleOptions | null {
  if (seedLo % 3 === 0) return null;
  const waits = seedLo % 3 === 2;
  const allowed = everyToken(vocab);
  for (let token = seedLo % 5; token < vocab && !waits; token += 5) clear(allowed, token);
  return {
    vocab,
    allowed: waits ? new Uint32Array(0) : allowed,
    minTokens: seedLo % 20,
    endTokens: Int32Array.of(seedLo % VOCAB, (seedLo + 1) % VOCAB),
    badTokens: Int32Array.from({ length: waits ? 2 * vocab : 0 }, (_, i) => i >> 1),
    badLengths: new Int32Array(waits ? vocab : 0).fill(2),
  };
}

/** llama.cpp's samplers for half of the requests, one of them or several; made of the seed, as the rules. */
function samplersOf({ seedHi = 0 }: Partial<SequenceOptions>): SamplerOptions | null {
  if (seedHi % 2 === 0) return null;
  const which = seedHi >> 1;
  return {
    topNSigma: which & 1 ? 1.3 : 0,
    typicalP: which & 2 ? 0.6 : 0,
    xtcProbability: which & 4 ? 0.5 : 0,
    xtcThreshold: 0.02,
    dynatempRange: which & 8 ? 0.5 : 0,
    dynatempExponent: 1.5,
  };
}

/** Mirostat for a few requests; made of the seed, as the rules. */
function mirostatOf({ seedHi = 0 }: Partial<SequenceOptions>): MirostatOptions | null {
  if (seedHi % 7 !== 3) return null;
  return { version: seedHi % 2 === 0 ? 1 : 2, tau: 1 + seedHi % 4, eta: 0.25 };
}

/** DRY for a few requests; made of the seed, as the rules. */
function dryOf({ seedHi = 0 }: Partial<SequenceOptions>, vocab: number): DryOptions | null {
  if (seedHi % 5 !== 0) return null;
  const none = new Int32Array(0);
  const alone = new Uint32Array(Math.ceil(vocab / 32));
  alone[0] = 1 << seedHi % 32;
  return {
    multiplier: 3,
    base: 1.75,
    allowedLength: seedHi % 3,
    lastTokens: MAX_CONTEXT,
    breakers: { alone, heads: none, tailOf: none, tailTokens: none, tailLengths: none },
  };
}

/** Fails unless both answers agree to the last bit. */
export function assertSame(found: Outcome, wanted: Outcome, what: string): void {
  assertEquals(found.tokens, wanted.tokens, `${what}: tokens`);
  // Numbers that came as float32: equal means equal bits (and NaN never comes).
  assertEquals(found.logprobs, wanted.logprobs, `${what}: log probabilities`);
  assertEquals(found.tops, wanted.tops, `${what}: alternatives`);
}

/**
 * Runs random workloads, each request alone and then all together in a random setting, and fails where any bit
 * differs; fails too when no workload preempted, reused a prefix or moved a block.
 */
export function checkDeterminism(model: Subject): void {
  const { vocab } = model.tables.config;
  const limit = (tokens: number) => Math.min(tokens, model.maxTokens ?? 100);
  const alone = open(model, {
    kvMode: "kv-rm",
    slots: 1,
    prefixCache: false,
    inFlight: 1,
    threads: 1,
    chunkLimit: 128,
    chunkWhileDecoding: 128,
    pool: 1,
    fragment: 0,
    bystanders: 0,
    preemptEvery: 0,
    editLimit: 1024,
  });
  let preemptions = 0;
  let reused = 0;
  let moved = 0;
  let givenUp = 0;
  try {
    const requests = fc.array(request, { minLength: 1, maxLength: model.maxRequests ?? 10 });
    fc.assert(
      fc.property(requests, setting, fc.nat(), (many, drawn, seed) => {
        // Modes that reserve slots give no block back, and so have no far history.
        const on = model.far && reservesSlots(drawn.kvMode) ? { ...drawn, kvMode: "kv-rm" as const } : drawn;
        const options = many.map(({ sampling }) => ({
          ...sampling,
          rules: rulesOf(sampling, vocab),
          samplers: samplersOf(sampling),
          mirostat: mirostatOf(sampling),
          penaltyLastN: [0, 0, 0, 9, 70][(sampling.seedHi ?? 0) % 5]!,
          dry: dryOf(sampling, vocab),
        }));
        const wanted = many.map((one, i) => alone.run(one.prompt, limit(one.maxTokens), options[i]));
        using together = open(model, on);
        if (on.fragment > 0 && on.kvMode === "kv-rm") fragment(together, on.fragment);
        const bystanders = Array.from(
          { length: on.bystanders },
          (_, i) =>
            together.sequence(Array.from({ length: 20 + 31 * i }, (_, j) => (i + j * j) % VOCAB), 100, {
              repetitionPenalty: i % 2 === 0 ? 1.5 : 1,
            }),
        );
        const sequences = many.map((one, i) =>
          together.sequence(one.prompt, limit(one.maxTokens), options[i])
        );
        const arrivals = [...bystanders, ...sequences];
        let next = 0;
        let forced = 0;
        const { loop, scheduler } = together.host;
        loop.submit(arrivals[next++]!);
        together.drain((turn) => {
          // Arrivals are spread over the first turns in a way that the seed decides.
          if ((turn * 31 + seed) % 3 === 0 && next < arrivals.length) loop.submit(arrivals[next++]!);
          const leaver = bystanders[turn % 7];
          const victim = scheduler.running.at(-1);
          if (victim && on.preemptEvery > 0 && turn % on.preemptEvery === 5 && forced++ < 6) {
            scheduler.preempt(victim, loop.lastStep);
          }
          if (leaver && turn > 9 + (seed % 13) && leaver.state !== State.FINISHED) loop.cancel(leaver);
        });
        while (next < arrivals.length) {
          loop.submit(arrivals[next++]!);
          together.drain();
        }
        sequences.forEach((sequence, i) => {
          assertSame(together.sink.of(sequence.id), wanted[i]!, `request ${i} of ${sequences.length}`);
        });
        together.host.pager.checkInvariants();
        preemptions += scheduler.preemptions;
        reused += together.host.pager.stats.prefixHits;
        moved += loop.stats.moves;
        givenUp += together.host.pager.stats.farBlocks;
      }),
      { numRuns: model.numRuns ?? 150, seed: model.seed ?? 20261123 },
    );
  } finally {
    alone[Symbol.dispose]();
  }
  // The property says nothing where the machinery it is about never ran.
  assert(preemptions > 0, "no run preempted anybody");
  assert(reused > 0, "no run reused a prefix");
  assert(moved > 0, "no run moved a block");
  if (model.far) assert(givenUp > 0, "no run gave a block up");
}
