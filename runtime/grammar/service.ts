/**
 * Grammars as the engine uses them: checked, compiled and kept, by workers that are started when the first
 * constrained request comes, and started anew when a grammar breaks them or takes them too long.
 *
 * @module
 */
import { EngineError, InvalidRequestError } from "../errors.ts";
import { type BoardMemory, BoardOwner } from "./board.ts";
import type { CheckReply, CheckRequest } from "./check_worker.ts";
import { hasMarks, type Vocabulary } from "./vocabulary.ts";
import type { GrammarCommand, GrammarEvent } from "./worker.ts";

/** Limits of a service. */
export interface GrammarLimits {
  /** Compiled grammars that are kept for the next request, beside those in use. Default 64. */
  kept?: number;
  /** Milliseconds that a grammar may take to be compiled. Default 10,000. */
  compileMs?: number;
  /** Milliseconds that a mask may take. Default 10,000. */
  maskMs?: number;
}

/** What a service is made from. */
export interface GrammarServiceOptions extends GrammarLimits {
  board: BoardMemory;
  /** Called once, when it is needed. */
  vocabulary: () => Promise<Vocabulary>;
  /** A sequence broke the worker: it has to be ended, the others go on. */
  onBroken: (sequence: number, error: Error) => void;
}

interface Grammar {
  id: number;
  text: string;
  marks: boolean;
  users: number;
  ready: Promise<void>;
  resolve: () => void;
  reject: (error: Error) => void;
  /** The worker has been asked for it, and has it. */
  sent: boolean;
  compiled: boolean;
}

/** How long reading a grammar may take. */
const CHECK_MS = 5_000;
const WATCH_MS = 500;

/** See the module. */
export class GrammarService {
  readonly #board: BoardOwner;
  readonly #options: GrammarServiceOptions;
  readonly #limits: Required<GrammarLimits>;
  readonly #checker = new Checker();
  /** By text, those used last at the end. */
  readonly #grammars = new Map<string, Grammar>();
  #vocabulary: Promise<Vocabulary> | null = null;
  #worker: Worker | null = null;
  #startAgain: () => void = () => {};
  #epoch = 0;
  #nextId = 1;
  /** Grammars that the worker has yet to compile, the first of them since `#since`. */
  readonly #compiling: Grammar[] = [];
  #since = 0;
  /** Of them, those in use that a worker before it had. */
  #lost = 0;
  #watch: ReturnType<typeof setInterval> | null = null;
  #closed = false;

  constructor(options: GrammarServiceOptions) {
    this.#options = options;
    this.#board = new BoardOwner(options.board);
    const { kept = 64, compileMs = 10_000, maskMs = 10_000 } = options;
    this.#limits = { kept, compileMs, maskMs };
  }

  /**
   * Gets a grammar ready; returns its id, for {@link release} once nobody uses it any more.
   *
   * @throws {InvalidRequestError} when it is no grammar, or too much of one
   */
  async acquire(text: string, param = "constraint"): Promise<number> {
    const known = this.#grammars.get(text);
    if (known !== undefined) {
      this.#grammars.delete(text);
      this.#grammars.set(text, known);
      known.users++;
      return this.#settled(known, param);
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    promise.catch(() => {});
    const id = this.#nextId++;
    const marks = hasMarks(text);
    const grammar = {
      id,
      text,
      marks,
      users: 1,
      ready: promise,
      resolve,
      reject,
      sent: false,
      compiled: false,
    };
    this.#grammars.set(text, grammar);
    void this.#prepare(grammar);
    return await this.#settled(grammar, param);
  }

  /** Ends one use of a grammar. */
  release(id: number): void {
    for (const grammar of this.#grammars.values()) if (grammar.id === id) grammar.users--;
    this.#evict();
  }

  /** Wakes a loop that sleeps until a mask is there. */
  ring(): void {
    this.#board.ring();
  }

  /** Ends the workers. */
  close(): void {
    this.#closed = true;
    if (this.#watch !== null) clearInterval(this.#watch);
    this.#worker?.terminate();
    this.#checker.close();
    for (const grammar of this.#grammars.values()) {
      grammar.reject(new EngineError("the engine is closed", "closed"));
    }
  }

  async #settled(grammar: Grammar, param: string): Promise<number> {
    try {
      await grammar.ready;
      return grammar.id;
    } catch (error) {
      if (!(error instanceof GrammarRefused)) throw error;
      throw new InvalidRequestError(`${param}: ${error.message}`, param, "invalid_grammar", { cause: error });
    }
  }

  async #prepare(grammar: Grammar): Promise<void> {
    try {
      await this.#checker.check(grammar.text);
      const vocabulary = await (this.#vocabulary ??= this.#options.vocabulary());
      if (this.#closed) return;
      if (this.#worker === null) this.#start(vocabulary);
      this.#compile(grammar);
    } catch (error) {
      this.#refuse(grammar, error instanceof Error ? error : new Error(String(error)));
    }
  }

  #compile(grammar: Grammar): void {
    if (this.#compiling.length === 0) this.#since = performance.now();
    this.#compiling.push(grammar);
    grammar.sent = true;
    const { id, text, marks } = grammar;
    this.#send({ type: "compile", grammar: id, text, marks });
  }

  #refuse(grammar: Grammar, error: Error): void {
    if (this.#grammars.get(grammar.text) === grammar) this.#grammars.delete(grammar.text);
    grammar.reject(error);
  }

  #evict(): void {
    const unused = [...this.#grammars.values()].filter(({ users, compiled }) => users === 0 && compiled);
    for (const grammar of unused.slice(0, Math.max(0, unused.length - this.#limits.kept))) {
      this.#grammars.delete(grammar.text);
      this.#send({ type: "drop", grammar: grammar.id });
    }
  }

  #send(command: GrammarCommand): void {
    this.#worker?.postMessage(command);
  }

  /** Starts a worker, with every grammar that the one before it had. */
  #start(vocabulary: Vocabulary): void {
    this.#startAgain = () => this.#start(vocabulary);
    const epoch = ++this.#epoch;
    const worker = new Worker(import.meta.resolve("./worker.ts"), { type: "module", name: "kvrm-grammar" });
    this.#worker = worker;
    worker.onmessage = ({ data }: MessageEvent<GrammarEvent>) => {
      if (this.#worker === worker) this.#hear(data);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      if (this.#worker === worker) this.#restart(this.#compiling[0] ?? null, 0, failure(event.message));
    };
    this.#since = performance.now();
    if (this.#watch === null) {
      this.#watch = setInterval(() => this.#look(), WATCH_MS);
      Deno.unrefTimer(this.#watch);
    }
    this.#send({ type: "start", board: this.#board.memory, epoch, vocabulary });
  }

  #hear(event: GrammarEvent): void {
    switch (event.type) {
      case "started":
        this.#since = performance.now();
        if (this.#lost === 0) this.#board.startEpoch(this.#epoch);
        return;
      case "compiled": {
        const grammar = this.#compiling.shift();
        this.#since = performance.now();
        if (grammar === undefined) return;
        if (grammar.compiled && --this.#lost === 0) this.#board.startEpoch(this.#epoch);
        grammar.compiled = true;
        grammar.resolve();
        return;
      }
      case "lost":
        this.#options.onBroken(event.sequence, failure(event.message));
        return;
      case "broken": {
        const grammar = this.#compiling.find(({ id }) => id === event.grammar) ?? null;
        const refused = grammar !== null;
        this.#restart(
          grammar,
          event.sequence,
          refused ? new GrammarRefused(event.message) : failure(event.message),
        );
      }
    }
  }

  /** The worker is gone, over a grammar or a sequence; whoever else needs it gets another. */
  #restart(grammar: Grammar | null, sequence: number, error: Error): void {
    this.#worker?.terminate();
    this.#worker = null;
    this.#compiling.length = 0;
    this.#lost = 0;
    if (this.#closed) return;
    if (grammar !== null) this.#refuse(grammar, error);
    if (sequence !== 0) this.#options.onBroken(sequence, error);
    // What nobody uses is not worth compiling again.
    for (const one of [...this.#grammars.values()]) {
      if (one.compiled && one.users === 0) this.#grammars.delete(one.text);
    }
    const again = [...this.#grammars.values()].filter(({ sent }) => sent);
    if (again.length === 0) return;
    this.#startAgain();
    this.#lost = again.filter(({ compiled }) => compiled).length;
    for (const one of again) this.#compile(one);
  }

  /** Looks whether the worker takes too long over something. */
  #look(): void {
    const { compileMs, maskMs } = this.#limits;
    const sequence = this.#board.stuck(maskMs);
    if (this.#worker === null) return;
    if (this.#compiling.length > 0 && performance.now() - this.#since > compileMs) {
      const late = new GrammarRefused(`the grammar takes longer than ${compileMs / 1000} s to compile`);
      this.#restart(this.#compiling[0]!, 0, late);
    } else if (sequence !== 0) {
      this.#restart(null, sequence, failure(`a mask takes longer than ${maskMs / 1000} s`));
    }
  }
}

/** A grammar that the library refuses. */
class GrammarRefused extends Error {}

function failure(message: string): EngineError {
  return new EngineError(`the grammar engine failed: ${message}`, "failed");
}

/** The worker that reads grammars first. */
class Checker {
  #worker: Worker | null = null;
  #last: Promise<void> = Promise.resolve();
  #giveUp: () => void = () => {};

  /** @throws {GrammarRefused} */
  check(text: string): Promise<void> {
    const checked = this.#last.then(() => this.#check(text));
    this.#last = checked.catch(() => {});
    return checked;
  }

  close(): void {
    this.#worker?.terminate();
    this.#worker = null;
    this.#giveUp();
  }

  async #check(text: string): Promise<void> {
    this.#worker ??= new Worker(import.meta.resolve("./check_worker.ts"), {
      type: "module",
      name: "kvrm-grammar-check",
    });
    const worker = this.#worker;
    const { promise, resolve } = Promise.withResolvers<string | null>();
    this.#giveUp = () => resolve("the engine is closed");
    let timer: ReturnType<typeof setTimeout> | undefined;
    worker.onmessage = ({ data }: MessageEvent<CheckReply>) => {
      if (data !== "begun") return resolve(data.refused);
      // From here on: that a busy machine takes long to load the library is not the grammar's fault.
      timer = setTimeout(
        () => resolve(`the grammar takes longer than ${CHECK_MS / 1000} s to read`),
        CHECK_MS,
      );
    };
    worker.onerror = (event) => {
      event.preventDefault();
      resolve(event.message);
    };
    worker.postMessage({ id: 0, text } satisfies CheckRequest);
    const refused = await promise;
    clearTimeout(timer);
    if (refused === null) return;
    this.close();
    throw new GrammarRefused(refused);
  }
}
