/**
 * The engine as its callers see it: requests in, chunks out. It encodes prompts, hands them to the worker
 * that the loop lives in, and turns the tokens that come back into text.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { ChosenLibrary } from "../ffi/mod.ts";
import { checkQueue } from "./admission.ts";
import { BeamSearch, checkBeams } from "./beam_search.ts";
import { Choices } from "./choices.ts";
import { BreakerIndex, MOST_DRY_WORDS } from "./dry_check.ts";
import { EngineError, InvalidRequestError } from "./errors.ts";
import { EngineGeneration, type TokenTaker } from "./generation.ts";
import { allocateBoard } from "./grammar/board.ts";
import { grammarOf } from "./grammar/constraint.ts";
import { GrammarService } from "./grammar/service.ts";
import { loadVocabulary } from "./grammar/vocabulary.ts";
import { LiveMemory, LiveView } from "./live.ts";
import type { LoadedModel } from "./model/folder.ts";
import type { EngineOptions, EngineSizes } from "./options.ts";
import { Command, Control, putSubmit, readStats, Stat, type Submission, submitWords } from "./protocol.ts";
import { checkRequest } from "./request.ts";
import { Ring } from "./ring.ts";
import { MOST_RULE_WORDS } from "./rule_check.ts";
import { LoopMetrics } from "./telemetry/loop_metrics.ts";
import { RequestMetrics } from "./telemetry/request_metrics.ts";
import type {
  ChatMessage,
  ChatOptions,
  Engine,
  EngineStats,
  EngineTelemetry,
  GenerateRequest,
  Generation,
  KvMode,
  ModelInfo,
} from "./types.ts";
import type { WorkerMessage, WorkerStart } from "./worker.ts";

/** Words of the ring of events: a second's worth of tokens for a slow main thread. */
const EVENT_RING_WORDS = 1 << 18;
const DEFAULT_MAX_QUEUE = 1024;
const DEFAULT_MAX_BACKLOG = 16384;
const DEFAULT_HEARTBEAT_TIMEOUT = 30;
/** How long events are taken before sockets and timers get their turn, in milliseconds. */
const PUMP_SLICE_MS = 0.5;
/** Events between two looks at the clock. */
const PUMP_EVENTS = 64;

/** An engine whose loop runs in a worker. */
export class WorkerEngine implements Engine {
  readonly model: ModelInfo;
  readonly kvMode: KvMode;
  readonly slots: number;
  readonly blockTokens: number;
  readonly started: Promise<void>;
  readonly failed: Promise<Error>;
  readonly backendReason: string;
  readonly telemetry: EngineTelemetry;
  live: LiveView | null = null;
  #backend = "";
  readonly #loaded: LoadedModel;
  #sizes: EngineSizes;
  readonly #maxQueue: number;
  readonly #maxPrompt: number;
  readonly #maxBacklog: number;
  readonly #heartbeatTimeoutMs: number;
  readonly #worker: Worker;
  readonly #commands: Ring;
  readonly #events: Ring;
  readonly #control: Int32Array;
  readonly #stats: Float64Array;
  readonly #choices: Choices;
  /** Null where no request has a constraint. */
  readonly #grammars: GrammarService | null;
  readonly #breakers: BreakerIndex;
  /** Grammars that requests in flight use. */
  readonly #held = new Map<EngineGeneration, number>();
  readonly #searches = new Map<EngineGeneration, BeamSearch>();
  readonly #stopped: Promise<void>;
  #onStopped: () => void = () => {};
  #onFailed: (error: Error) => void = () => {};
  #nextId = 1;
  /** Whether the heartbeat was found too old at the last look. */
  #suspect = false;
  #state: "starting" | "running" | "closing" | "failed" = "starting";
  #failure: EngineError | null = null;
  /** Serialises submissions that must wait for room on the ring. */
  #submitting: Promise<void> = Promise.resolve();

  constructor(
    model: LoadedModel,
    sizes: EngineSizes,
    options: EngineOptions,
    library: ChosenLibrary,
    worker: Worker,
  ) {
    this.#loaded = model;
    this.#sizes = sizes;
    this.#maxQueue = options.maxQueue ?? DEFAULT_MAX_QUEUE;
    this.#maxPrompt = options.maxPrompt ?? Infinity;
    this.#maxBacklog = options.maxBacklog ?? DEFAULT_MAX_BACKLOG;
    this.#heartbeatTimeoutMs = (options.heartbeatTimeout ?? DEFAULT_HEARTBEAT_TIMEOUT) * 1000;
    this.kvMode = sizes.kvMode;
    this.slots = sizes.native.slots;
    this.blockTokens = sizes.native.blockTokens;
    this.model = {
      id: model.id,
      created: Math.floor(Date.now() / 1000),
      architecture: model.architecture,
      dtype: model.dtype,
      parameters: model.parameters,
      vocabSize: model.tables.config.vocab,
      maxContext: sizes.maxContext,
      hasChatTemplate: model.chatTemplate !== null,
      chatTemplate: model.chatTemplate?.source ?? "",
    };
    const vocab = model.tables.config.vocab;
    this.#breakers = new BreakerIndex({
      size: vocab,
      bytes: (token) => model.tokenizer.tokenBytes(token),
      encode: (text) => model.tokenizer.encode(text, { addSpecialTokens: false }),
    });
    const board = sizes.native.maskRows === 0 ? null : allocateBoard(this.slots, sizes.maxContext, vocab);
    this.#grammars = board === null ? null : new GrammarService({
      board,
      vocabulary: () => loadVocabulary(model.tokenizer, vocab, model.eosTokenIds),
      onBroken: (sequence, error) => this.#choices.get(sequence)?.generation.cancel(error),
    });
    const start: WorkerStart = {
      board,
      tables: model.tables,
      sizes,
      libraryPath: library.path,
      commands: Ring.allocate(
        2 * sizes.maxContext + 2 * Math.ceil(vocab / 32) + MOST_RULE_WORDS + MOST_DRY_WORDS + 4096,
      ),
      events: Ring.allocate(EVENT_RING_WORDS),
      control: new SharedArrayBuffer(Control.WORDS * 4),
      stats: new SharedArrayBuffer(Stat.COUNT * 8),
      metrics: LoopMetrics.allocate(sizes.native.chunks.length + 1),
      live: LiveMemory.allocate(sizes.native),
    };
    this.telemetry = {
      requests: new RequestMetrics(),
      loop: new LoopMetrics(start.metrics, sizes.native.chunks.length + 1),
      shapes: [0, ...sizes.native.chunks],
      blockBytes: sizes.blockBytes,
    };
    this.#commands = new Ring(start.commands);
    this.#events = new Ring(start.events);
    this.#choices = new Choices(
      this.#events,
      model.tokenizer,
      this.telemetry.requests,
      (choice) => this.#cancelChoice(choice),
    );
    this.#control = new Int32Array(start.control);
    this.#stats = new Float64Array(start.stats);
    this.backendReason = library.reason;
    this.failed = new Promise((resolve) => this.#onFailed = resolve);
    this.#stopped = new Promise((resolve) => this.#onStopped = resolve);
    this.#worker = worker;
    this.started = this.#start(start);
  }

  get kvBytes(): number {
    return this.#sizes.blockBytes * this.#sizes.native.numBlocks;
  }

  get backend(): string {
    return this.#backend;
  }

  get failure(): Error | null {
    return this.#failure;
  }

  #start(start: WorkerStart): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = (message: string, cause?: unknown) => {
        const error = new EngineError(message, "failed", { cause });
        reject(error);
        this.#fail(error);
      };
      this.#worker.onmessage = ({ data }: MessageEvent<WorkerMessage>) => {
        if (data.type === "ready") {
          this.#backend = data.backend;
          this.#sizes = data.sizes;
          const { slots, numBlocks: blocks } = data.sizes.native;
          this.live = new LiveView(new LiveMemory(start.live, { slots, blocks }));
          this.model.maxContext = data.sizes.maxContext;
          this.#state = "running";
          this.#pump();
          resolve();
        } else if (data.type === "failed") {
          fail(this.#state === "starting" ? data.message : `the engine failed: ${data.message}`, data.code);
        } else this.#onStopped();
      };
      this.#worker.onerror = (event) => {
        event.preventDefault();
        fail(`the engine's worker failed: ${event.message}`);
      };
      this.#worker.postMessage(start);
    });
  }

  generate(request: GenerateRequest): Generation {
    if (this.#state !== "running") {
      throw this.#failure ?? new EngineError("the engine is closed", "closed");
    }
    const prompt = this.#promptIds(request);
    this.#checkPrompt(prompt);
    const grammar = this.#grammarText(request);
    const plan = checkRequest(request, prompt, {
      maxContext: this.#sizes.maxContext,
      vocab: this.#loaded.tables.config.vocab,
      defaults: this.#loaded.defaults,
      eosTokenIds: this.#loaded.eosTokenIds,
      masks: this.#grammars !== null,
      encode: (text) => this.encode(text, { addSpecialTokens: false }),
      breakers: (texts) => this.#breakers.of(texts),
    });
    const lengthPenalty = request.beamSearch === undefined
      ? null
      : checkBeams(request, plan.base.maxTokens, this.model.vocabSize);
    checkQueue(plan.n, this.#choices, this.#maxQueue);
    const generation = new EngineGeneration(prompt, {
      promptLogprobs: plan.base.promptLogprobs > 0,
      rankedTops: request.promptRanks ? request.promptLogprobs ?? null : null,
      // A search answers all at once, which says nothing of who reads it.
      maxBacklog: lengthPenalty === null ? this.#maxBacklog : Infinity,
      onCancel: (cancelled, reason) => this.#cancel(cancelled, reason),
      onEnd: (ended) => this.#ended(ended),
    });
    const tokenizer = this.#loaded.tokenizer;
    const submissions: Submission[] = [];
    const first = this.#nextId;
    for (let index = 0; index < plan.n; index++) {
      const id = this.#nextId++;
      const choice = generation.addChoice({
        id,
        index,
        detokenizer: tokenizer.detokenizer({ prompt, skipSpecialTokens: request.skipSpecialTokens ?? true }),
        stop: request.stop ?? [],
        stopTokens: plan.base.stopTokens,
        ...(request.minTokens !== undefined && { minTokens: request.minTokens }),
      });
      this.#choices.add(choice);
      submissions.push({
        ...plan.base,
        ...plan.seed(index),
        id,
        parent: index === 0 ? -1 : first,
        promptLogprobs: index === 0 ? plan.base.promptLogprobs : 0,
      });
    }
    const signal = request.signal;
    if (signal?.aborted) generation.cancel();
    else {
      signal?.addEventListener("abort", () => generation.cancel(), { once: true });
      if (lengthPenalty !== null) this.#search(generation, submissions[0]!, lengthPenalty);
      else if (grammar === null) this.#submit(submissions);
      else {
        generation.accepted = this.#submitConstrained(
          generation,
          submissions,
          grammar,
          request.constraintParam,
        );
        // Whoever only iterates hears of it there.
        generation.accepted.catch(() => {});
      }
    }
    return generation;
  }

  /** Starts a search; the generation's choices hold its places in the queue. */
  #search(generation: EngineGeneration, base: Submission, lengthPenalty: number): void {
    const search = new BeamSearch(generation, base, lengthPenalty, {
      newId: () => this.#nextId++,
      run: (steps, submissions) => {
        for (const step of steps) this.#choices.add(step);
        this.#submit(submissions);
      },
      drop: (step) => this.#cancelChoice(step),
      answered: (choice) => this.#choices.answered(choice),
    });
    this.#searches.set(generation, search);
    search.step();
  }

  /** The grammar of a request's constraint; null without one. */
  #grammarText({ constraint, constraintParam = "constraint" }: GenerateRequest): string | null {
    if (constraint === undefined) return null;
    const why = this.#grammars === null
      ? "this engine was started without structured output"
      : this.#loaded.eosTokenIds.length === 0
      ? "the model has no token that ends a text"
      : null;
    if (why === null) return grammarOf(constraint, constraintParam);
    throw new InvalidRequestError(
      `${constraintParam} cannot be had: ${why}`,
      constraintParam,
      "unsupported_parameter",
    );
  }

  async #submitConstrained(
    generation: EngineGeneration,
    submissions: Submission[],
    grammar: string,
    param: string | undefined,
  ): Promise<void> {
    try {
      const id = await this.#grammars!.acquire(grammar, param);
      if (generation.finished) return this.#grammars!.release(id);
      this.#held.set(generation, id);
      for (const submission of submissions) submission.grammar = id;
      this.#submit(submissions);
    } catch (error) {
      generation.cancel(error as Error);
      throw error;
    }
  }

  #promptIds(request: GenerateRequest): number[] {
    const { prompt, messages } = request;
    if ((prompt === undefined) === (messages === undefined)) {
      throw new InvalidRequestError("give either prompt or messages", "prompt");
    }
    if (messages) return this.encode(this.renderChat(messages, request.chat), { addSpecialTokens: false });
    return typeof prompt === "string" ? this.encode(prompt) : [...prompt!];
  }

  #checkPrompt(prompt: readonly number[]): void {
    if (prompt.length <= this.#maxPrompt) return;
    throw new InvalidRequestError(
      `the prompt has ${prompt.length} tokens; this server takes at most ${this.#maxPrompt}`,
      "prompt",
      "prompt_too_long",
    );
  }

  #ended(generation: EngineGeneration): void {
    this.telemetry.requests.ended(generation.timing, generation.usage);
    this.#searches.get(generation)?.stop();
    this.#searches.delete(generation);
    const grammar = this.#held.get(generation);
    if (grammar === undefined) return;
    this.#held.delete(generation);
    this.#grammars!.release(grammar);
  }

  /** Puts submissions on the ring in order, waiting for room where need be. */
  #submit(submissions: Submission[]): void {
    this.#submitting = this.#submitting.then(async () => {
      for (const submission of submissions) {
        const words = submitWords(submission);
        while (!this.#commands.hasRoom(words)) {
          this.#commands.publish();
          await new Promise((resolve) => setTimeout(resolve, 1));
          if (this.#state !== "running") return;
        }
        if (this.#choices.get(submission.id) !== undefined) putSubmit(this.#commands, submission);
      }
      this.#publish();
    });
  }

  /** Shows the worker its commands, whatever it waits for. */
  #publish(): void {
    this.#commands.publish();
    this.#grammars?.ring();
  }

  #cancel(generation: EngineGeneration, reason?: Error): void {
    for (const choice of generation.choices) {
      if (choice.finished) continue;
      this.telemetry.requests.finished[reason === undefined ? "cancelled" : "error"]++;
      this.#cancelChoice(choice);
    }
  }

  #cancelChoice(choice: TokenTaker): void {
    this.#choices.forget(choice);
    this.#submitting = this.#submitting.then(async () => {
      while (!this.#commands.hasRoom(2)) await new Promise((resolve) => setTimeout(resolve, 1));
      this.#commands.put(Command.CANCEL);
      this.#commands.put(choice.id);
      this.#publish();
    });
  }

  /** Takes events off the ring until the engine ends. */
  async #pump(): Promise<void> {
    while (this.#state === "running") {
      if (this.#events.available === 0) {
        await this.#events.waitAsync(1000);
        this.#checkHeartbeat();
        continue;
      }
      const end = performance.now() + PUMP_SLICE_MS;
      do {
        for (let i = 0; i < PUMP_EVENTS && this.#events.available > 0; i++) this.#choices.takeEvent();
      } while (this.#events.available > 0 && performance.now() < end);
      this.#events.release();
      // While events keep coming this would go round in microtasks alone, and sockets would never be served.
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  }

  #checkHeartbeat(): void {
    if (this.#state !== "running" || this.#heartbeatAge() <= this.#heartbeatTimeoutMs) {
      this.#suspect = false;
      return;
    }
    // A process that was stopped and goes on finds an old heartbeat too: the worker gets a second to answer.
    if (!this.#suspect) {
      this.#suspect = true;
      return;
    }
    const seconds = this.#heartbeatTimeoutMs / 1000;
    this.#fail(new EngineError(`the engine's worker has not answered for ${seconds} s`, "failed"));
  }

  #fail(error: EngineError): void {
    if (this.#state === "failed") return;
    this.#state = "failed";
    this.#failure = error;
    const choices = this.#choices.all();
    this.#choices.clear();
    this.telemetry.requests.finished.error += choices.filter(({ counts }) => counts).length;
    for (const choice of choices) choice.generation.fail(error);
    this.#worker.terminate();
    this.#grammars?.close();
    this.#onStopped();
    this.#onFailed(error);
  }

  encode(text: string, options?: { addSpecialTokens?: boolean }): number[] {
    return this.#loaded.tokenizer.encode(text, options);
  }

  decode(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string {
    return this.#loaded.tokenizer.decode(ids, options);
  }

  renderChat(messages: readonly ChatMessage[], options: ChatOptions = {}): string {
    const template = this.#loaded.chatTemplate;
    if (!template) {
      throw new InvalidRequestError(
        `the model ${this.model.id} has no chat template; use a plain prompt`,
        "messages",
        "no_chat_template",
      );
    }
    return template.render(messages, options);
  }

  tokenBytes(id: number): Uint8Array {
    return this.#loaded.tokenizer.tokenBytes(id);
  }

  #heartbeatAge(): number {
    return ((Date.now() | 0) - Atomics.load(this.#control, Control.HEARTBEAT)) | 0;
  }

  stats(): EngineStats {
    const blocks = this.#sizes.native.numBlocks;
    return readStats(this.#stats, { slots: this.slots, blocks, heartbeatAgeMs: this.#heartbeatAge() });
  }

  async close(): Promise<void> {
    if (this.#state === "running") {
      for (const choice of this.#choices.all()) choice.generation.cancel();
      this.#state = "closing";
      Atomics.store(this.#control, Control.STOP, 1);
      this.#commands.put(Command.CANCEL); // wakes an idle worker
      this.#commands.put(0);
      this.#publish();
    }
    this.#grammars?.close();
    await this.#stopped;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
