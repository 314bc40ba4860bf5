/**
 * Server-sent events at speed: one byte stream per response, what is ready together goes out together.
 *
 * @module
 */

/** Bytes that the response body holds ready for the socket; more waits in the stream's own text. */
const BODY_BYTES = 32 * 1024;

/** Characters of text after which writers are asked to wait. */
const FULL_CHARACTERS = 64 * 1024;

const encoder = new TextEncoder();

/** The last event of a stream that went well. */
export const DONE = "data: [DONE]\n\n";

/** One event with a JSON value. */
export function event(value: unknown): string {
  return `data: ${JSON.stringify(value)}\n\n`;
}

/** One event with a name, which its JSON value repeats as `type`. */
export function namedEvent<T extends { type: string }>(value: T): string {
  return `event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`;
}

/**
 * A stream of events. Writers hand in text of whole events; once per turn of the event loop each stream's
 * text becomes one chunk of bytes. `onCancel` is called when the reader goes away.
 */
export class EventStream {
  readonly body: ReadableStream<Uint8Array>;
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  #text = "";
  #held = false;
  #state: "open" | "closing" | "closed" = "open";
  #waiting: (() => void)[] = [];

  constructor(onCancel: () => void = () => {}) {
    this.body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#controller = controller;
      },
      // Text that the reader was not ready for waits for this; other text for its turn.
      pull: () => this.#held ? this.#flush() : undefined,
      cancel: () => {
        this.left = true;
        this.#end();
        onCancel();
      },
    }, { highWaterMark: BODY_BYTES, size: (chunk) => chunk.byteLength });
  }

  /** True when the reader left before the end. */
  left = false;

  /** True once the reader is gone or `close` was called: further events are dropped. */
  get closed(): boolean {
    return this.#state !== "open";
  }

  /** True when the reader lags so far behind that a writer should await `drained` before it writes more. */
  get full(): boolean {
    return this.#text.length >= FULL_CHARACTERS;
  }

  /** Appends whole events. */
  write(events: string): void {
    if (this.#state !== "open" || events === "") return;
    if (this.#text === "") flushSoon(this);
    this.#text += events;
  }

  /** Resolves when the stream is no longer full, or is closed. */
  async drained(): Promise<void> {
    while (this.full && this.#state === "open") {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** Ends the stream after what was written. */
  close(): void {
    if (this.#state !== "open") return;
    this.#state = "closing";
    this.#flush();
  }

  /** Ends the stream at once, whatever its reader has not taken. */
  abort(error: Error): void {
    if (this.#state === "closed") return;
    this.#end();
    this.#controller.error(error);
  }

  /** Called by the flusher, once per turn. */
  static flush(stream: EventStream): void {
    stream.#flush();
  }

  #flush(): void {
    if (this.#state === "closed") return;
    this.#held = this.#text !== "" && (this.#controller.desiredSize ?? 0) <= 0;
    if (this.#text !== "" && !this.#held) {
      // Taken before it is handed over: enqueue calls pull, which comes back here.
      const text = this.#text;
      this.#text = "";
      this.#controller.enqueue(encoder.encode(text));
      this.#wake();
    }
    if (this.#state === "closing" && this.#text === "") {
      this.#end();
      this.#controller.close();
    }
  }

  #end(): void {
    this.#state = "closed";
    this.#text = "";
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** Streams that are done are forgotten when there are so many, though others never cease to come. */
const MAX_FLUSHED = 1024;
/** How long streams are flushed before sockets get their turn, in milliseconds. */
const FLUSH_SLICE_MS = 0.5;
/**
 * How many, at most. Most of what a flush costs comes after it: the body's reader, the server's task, the write to
 * the socket, some 50 us together. All of that happens before another request is looked at.
 */
const FLUSHES = 12;

let flushing: EventStream[] = [];
/** The first of `flushing` that still waits. */
let next = 0;

function flushSoon(stream: EventStream): void {
  // One macrotask for all streams, after the microtasks in which their writers run.
  if (flushing.push(stream) === 1) setImmediate(flushSome);
}

/** Those who are not reached in this turn of the event loop gather more text for the next. */
function flushSome(): void {
  const end = performance.now() + FLUSH_SLICE_MS;
  const stop = Math.min(flushing.length, next + FLUSHES);
  do EventStream.flush(flushing[next++]!); while (next < stop && performance.now() < end);
  if (next === flushing.length || next >= MAX_FLUSHED) {
    flushing = flushing.slice(next);
    next = 0;
  }
  if (flushing.length > 0) setImmediate(flushSome);
}
