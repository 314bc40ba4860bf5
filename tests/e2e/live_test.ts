import { assert, assertEquals } from "@std/assert";
import { ServiceState } from "../../api/service_state.ts";
import { atRest, CANNOT_RUN, promptOf, type Service, startService, until } from "./service.ts";

const ignore = CANNOT_RUN;

// deno-lint-ignore no-explicit-any
type Event = any;

/** Whoever watches, and what came. */
class Watcher implements AsyncDisposable {
  readonly events: Event[] = [];
  ended = false;
  readonly #abort = new AbortController();
  #done: Promise<void> = Promise.resolve();

  static async open({ url }: Service): Promise<Watcher> {
    const watcher = new Watcher();
    const response = await fetch(`${url}/live`, { signal: watcher.#abort.signal });
    assertEquals(response.status, 200);
    assertEquals(response.headers.get("content-type"), "text/event-stream");
    watcher.#done = watcher.#read(response).catch(() => {});
    return watcher;
  }

  async #read(response: Response): Promise<void> {
    let text = "";
    for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
      text += piece;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const data = /^data: (.*)$/m.exec(text.slice(0, end))?.[1];
        if (data !== undefined) this.events.push(JSON.parse(data));
        text = text.slice(end + 2);
      }
    }
    this.ended = true;
  }

  frames(): Event[] {
    return this.events.filter(({ type }) => type === "frame");
  }

  async [Symbol.asyncDispose]() {
    this.#abort.abort();
    await this.#done;
  }
}

Deno.test({
  name: "GET /live says what is served, then what happens, and nothing while nothing does",
  ignore,
  fn: async () => {
    await using service = await startService({ slots: 2 });
    await using watcher = await Watcher.open(service);
    await until(() => watcher.frames().length > 0, "the first picture");
    const [hello] = watcher.events;
    const { blocks } = service.engine.stats();
    assertEquals([hello.type, hello.model.id, hello.slots, hello.blocks], [
      "hello",
      service.engine.model.id,
      2,
      blocks.total,
    ]);
    await service.complete({ prompt: promptOf(service.engine, 40), max_tokens: 64, ignore_eos: true });
    await atRest(service.engine);
    const steps = () => watcher.frames().flatMap((frame) => frame.steps);
    await until(() => watcher.frames().at(-1).running === 0 && steps().length > 0, "its steps");
    assertEquals(watcher.frames().at(-1).counts.generated, 64);
    assert(
      watcher.frames().every(({ cells }) =>
        cells.reduce((sum: number, value: number, i: number) => sum + (i % 2 === 1 ? value : 0), 0) ===
          hello.cells
      ),
    );
    const live = service.engine.live!;
    await until(async () => {
      const { length } = watcher.events;
      const { version } = live;
      await until(() => live.version > version + 10, "pictures go on");
      return watcher.events.length === length;
    }, "pictures in which nothing has happened, and no event");
  },
});

Deno.test({
  name: "GET /live has the engine publish until the last watcher has left",
  ignore,
  fn: async () => {
    await using service = await startService({ slots: 2 });
    const live = service.engine.live!;
    const work = () => service.complete({ prompt: "Once", max_tokens: 16, ignore_eos: true });
    await work();
    assertEquals(live.version, 0);
    const head = await fetch(`${service.url}/live`, { method: "HEAD" });
    assertEquals([head.status, await head.text()], [200, ""]);
    await work();
    assertEquals(live.version, 0);
    {
      await using _one = await Watcher.open(service);
      {
        await using _two = await Watcher.open(service);
        await until(() => live.version > 0, "a picture");
      }
      const { version } = live;
      await until(() => live.version > version, "another, for who stayed");
    }
    await until(() => !live.watched, "both have left");
    await work(); // the worker looks at each turn
    const { version } = live;
    await service.complete({ prompt: "Once", max_tokens: 400, ignore_eos: true });
    assertEquals(live.version, version);
  },
});

Deno.test({
  name: "GET /live does not keep a server that ends, nor lets itself be watched by too many",
  ignore,
  fn: async () => {
    const state = new ServiceState();
    await using service = await startService({ slots: 1 }, { state });
    await using stack = new AsyncDisposableStack();
    const watchers: Watcher[] = [];
    for (let i = 0; i < 32; i++) watchers.push(stack.use(await Watcher.open(service)));
    const refused = await fetch(`${service.url}/live`);
    assertEquals([refused.status, refused.headers.get("retry-after")], [429, "10"]);
    await refused.body?.cancel();
    assertEquals(state.active, 0);
    state.drain();
    await until(() => watchers.every(({ ended }) => ended), "the streams have ended");
  },
});
