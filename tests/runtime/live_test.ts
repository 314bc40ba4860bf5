import { assert, assertEquals } from "@std/assert";
import { existsSync } from "node:fs";
import { createEngine, type Engine, type LivePicture } from "../../mod.ts";
import { EngineHost } from "../../runtime/host.ts";
import { Owner } from "../../runtime/kv/mod.ts";
import { Head, LiveMemory, LiveView, SlotField, StepField } from "../../runtime/live.ts";
import { loadModelFolder } from "../../runtime/model/folder.ts";
import { type EngineOptions, engineSizes } from "../../runtime/options.ts";
import { FIXTURES } from "../golden.ts";
import { CollectingSink } from "../harness.ts";
import { greedyOptions, Sequence } from "../../runtime/sequence.ts";

const MODEL = `${FIXTURES}/models/llama3`;
const LIBRARY = new URL("../../build/libkvrm_cpu.so", import.meta.url).pathname;
const ignore = !existsSync(LIBRARY);

/** A loop in this thread, whose picture is made between turns. */
class Watched implements Disposable {
  readonly buffer: SharedArrayBuffer;
  readonly view: LiveView;
  readonly host: EngineHost;
  #id = 1;

  constructor(host: EngineHost, buffer: SharedArrayBuffer) {
    this.host = host;
    this.buffer = buffer;
    const { slots, numBlocks: blocks } = host.sizes.native;
    this.view = new LiveView(new LiveMemory(buffer, { slots, blocks }));
  }

  static async start(options: Omit<EngineOptions, "model">): Promise<Watched> {
    const { tables, dtype } = await loadModelFolder(MODEL);
    const sizes = engineSizes({ model: "", threads: 1, ...options }, tables, dtype);
    const buffer = LiveMemory.allocate(sizes.native);
    const host = new EngineHost(tables, sizes, new CollectingSink(), LIBRARY, { live: buffer });
    return new Watched(host, buffer);
  }

  submit(promptLength: number, maxTokens: number): void {
    this.host.loop.submit(
      new Sequence(
        greedyOptions(
          this.#id++,
          Int32Array.from({ length: promptLength }, (_, i) => 1 + i % 50),
          maxTokens,
        ),
      ),
    );
  }

  turn(): void {
    this.host.live!.tick();
    this.host.loop.turn(1_000_000);
  }

  drain(): void {
    while (!this.host.loop.idle) this.turn();
  }

  [Symbol.dispose](): void {
    this.host[Symbol.dispose]();
  }
}

/** Turns until the next picture. */
function picture(watched: Watched): LivePicture {
  const before = watched.view.version;
  const deadline = performance.now() + 120_000;
  while (watched.view.version === before && performance.now() < deadline) watched.host.live!.tick();
  const found = watched.view.read();
  if (found === null) throw new Error("no picture was made");
  return found;
}

const owners = ({ cells }: LivePicture) =>
  cells.flatMap((value, i) => i % 2 === 0 ? new Array<number>(cells[i + 1]!).fill(value) : []);

Deno.test({
  name: "LivePublisher writes not a byte while nobody watches, nor after the last one left",
  ignore,
  fn: async () => {
    using watched = await Watched.start({ slots: 2 });
    watched.submit(40, 20);
    watched.drain();
    assertEquals(new Uint8Array(watched.buffer).some((byte) => byte !== 0), false);
    assertEquals(watched.view.read(), null);

    const leave = [watched.view.watch(), watched.view.watch()];
    watched.submit(40, 20);
    watched.drain();
    assert(picture(watched).steps.length > 0);
    leave[0]!();
    leave[0]!(); // again, by mistake: it counts once
    assertEquals(Atomics.load(new Int32Array(watched.buffer), Head.WATCHED), 1);
    leave[1]!();
    const bytes = new Uint8Array(watched.buffer).slice();
    watched.submit(40, 20);
    watched.drain();
    watched.host.live!.tick();
    assertEquals(new Uint8Array(watched.buffer), bytes);
  },
});

Deno.test({
  name: "LiveView shows a running sequence's blocks, record and steps, and that they are free afterwards",
  ignore,
  fn: async () => {
    using watched = await Watched.start({ slots: 2, blockTokens: 16, prefixCache: false });
    watched.view.watch();
    watched.submit(40, 20);
    for (let i = 0; i < 6; i++) watched.turn();
    const running = picture(watched);
    const { stats } = watched.host.pager;
    assertEquals(owners(running).length, watched.host.sizes.native.numBlocks);
    assertEquals(owners(running).filter((owner) => owner === Owner.SLOT).length, stats.active);
    const slot = running.slots[0]!;
    assertEquals([slot[SlotField.ID], slot[SlotField.PROMPT], slot[SlotField.MAX]], [1, 40, 20]);
    assertEquals([slot[SlotField.BLOCKS], slot[SlotField.GROUPS]], [stats.active, stats.extents]);
    assertEquals(running.slots[1]![SlotField.ID], 0);
    const [first] = running.steps;
    assertEquals([first![StepField.STEP], first![StepField.DECODE]], [1, 0]);
    assert(first![StepField.PROMPT]! > 0 && first![StepField.EXEC_US]! > 0);
    for (const step of running.steps) assert(step[StepField.BLOCKS]! >= step[StepField.GROUPS]!);

    watched.drain();
    const rest = picture(watched);
    assertEquals(owners(rest).every((owner) => owner === Owner.FREE), true);
    assertEquals(rest.slots[0]![SlotField.ID], 0);
    assertEquals(rest.steps[0]![StepField.STEP], running.steps.at(-1)![StepField.STEP]! + 1);
    assertEquals(picture(watched).steps, []);
  },
});

Deno.test("LiveMemory shows a large pool in few squares, all of it", () => {
  for (const blocks of [1, 4096, 4097, 150_000, 1_000_001]) {
    const memory = new LiveMemory(LiveMemory.allocate({ slots: 3 }), { slots: 3, blocks });
    assert(memory.cells.length <= 4096);
    assert(memory.cells.length * memory.blocksPerCell >= blocks);
    assert((memory.cells.length - 1) * memory.blocksPerCell < blocks);
  }
});

Deno.test({
  name: "LiveView shows the busiest block of a square, where a square is several",
  ignore,
  fn: async () => {
    using watched = await Watched.start({
      slots: 160,
      blockTokens: 16,
      prefixCache: false,
    });
    const { numBlocks } = watched.host.sizes.native;
    assert(numBlocks > 4096, `${numBlocks} blocks`);
    watched.view.watch();
    watched.submit(40, 20);
    for (let i = 0; i < 4; i++) watched.turn();
    const shown = owners(picture(watched));
    assertEquals(shown.length, watched.view.cells);
    assertEquals(
      shown.filter((owner) => owner === Owner.SLOT).length,
      Math.ceil(watched.host.pager.stats.active / watched.view.blocksPerCell),
    );
    watched.drain();
  },
});

async function answer(engine: Engine): Promise<void> {
  for await (const chunk of engine.generate({ prompt: [1, 2, 3], maxTokens: 30, ignoreEos: true })) {
    void chunk;
  }
}

Deno.test({
  name: "Engine.live has pictures made while somebody watches, and no longer",
  ignore,
  fn: async () => {
    await using engine = await createEngine({
      model: MODEL,
      threads: 1,
      libraryPath: LIBRARY,
      backend: "cpu",
    });
    const live = engine.live!;
    await answer(engine);
    assertEquals([live.version, live.read()], [0, null]);
    const leave = live.watch();
    await answer(engine);
    for (let i = 0; live.version < 4; i++) {
      assert(i < 12_000, "no pictures");
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    leave();
    await answer(engine); // the worker has looked at the flag since
    const { version } = live;
    await answer(engine);
    assertEquals(live.version, version);
  },
});
