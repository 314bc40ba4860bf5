/**
 * The grammar worker: it compiles grammars, follows every constrained sequence token by token, and writes the mask
 * of what may come next where the engine's loop finds it.
 *
 * @module
 */
/// <reference lib="deno.worker" />
import { setImmediate } from "node:timers";
import { type BoardMemory, MaskRequest, MaskServer } from "./board.ts";
import type { Vocabulary } from "./vocabulary.ts";
import { type CompiledGrammar, Compiler, type GrammarMatcher, reasonOf, startLibrary } from "./xgrammar.ts";

/** Messages to the worker: what it is, a grammar to compile, one that is not needed any more. */
export type GrammarCommand =
  | { type: "start"; board: BoardMemory; epoch: number; vocabulary: Vocabulary }
  | { type: "compile"; grammar: number; text: string; marks: boolean }
  | { type: "drop"; grammar: number };

/**
 * Messages from it. "lost": a sequence cannot go on. After "broken" it is of no more use; `grammar` or `sequence` is
 * what it broke over.
 */
export type GrammarEvent =
  | { type: "started" }
  | { type: "compiled"; grammar: number }
  | { type: "lost"; message: string; sequence: number }
  | { type: "broken"; message: string; grammar: number; sequence: number };

/** How long messages may have to wait while tokens come, in milliseconds. */
const YIELD_MS = 2;
const IDLE_MS = 1000;

/** One sequence's place in its grammar. */
interface Follower {
  matcher: GrammarMatcher;
  accepted: number;
}

class GrammarWorker {
  readonly #masks: MaskServer;
  readonly #vocabulary: Vocabulary;
  /** Without and with marks, made when they are needed. */
  readonly #compilers: (Promise<Compiler> | undefined)[] = [];
  readonly #grammars = new Map<number, { compiled: CompiledGrammar; compiler: Compiler }>();
  readonly #followers = new Map<number, Follower>();
  readonly #request = new MaskRequest();
  /** What is left when a text is whole. */
  readonly #onlyStops: Uint32Array;
  #grammar = 0;
  #broken = false;

  constructor({ board, epoch, vocabulary }: Extract<GrammarCommand, { type: "start" }>) {
    this.#masks = new MaskServer(board, epoch);
    this.#vocabulary = vocabulary;
    this.#onlyStops = new Uint32Array(board.words);
    for (const token of vocabulary.stopTokens) this.#onlyStops[token >> 5]! |= 1 << (token & 31);
  }

  async compile(grammar: number, text: string, marks: boolean): Promise<void> {
    try {
      this.#grammar = grammar;
      const compiler = await (this.#compilers[Number(marks)] ??= Compiler.create(this.#vocabulary, marks));
      this.#grammars.set(grammar, { compiled: await compiler.compile(text), compiler });
      this.#grammar = 0;
      post({ type: "compiled", grammar });
    } catch (error) {
      this.#break(error);
    }
  }

  drop(grammar: number): void {
    this.#grammars.get(grammar)?.compiled.dispose();
    this.#grammars.delete(grammar);
  }

  /** Serves tokens for ever. While there are any it blocks, and lets messages in every now and then. */
  async run(): Promise<void> {
    let yielded = performance.now();
    while (!this.#broken) {
      while (this.#masks.take(this.#request)) {
        try {
          await this.#serve(this.#request);
        } catch (error) {
          return this.#break(error);
        }
      }
      if (this.#followers.size === 0) await this.#masks.waitAsync(IDLE_MS);
      else this.#masks.wait(YIELD_MS);
      if (performance.now() - yielded < YIELD_MS) continue;
      await new Promise<void>((resolve) => setImmediate(resolve));
      yielded = performance.now();
    }
  }

  async #serve(request: MaskRequest): Promise<void> {
    const { sequence } = request;
    let follower = this.#followers.get(sequence);
    if (request.closes) {
      follower?.matcher.dispose();
      this.#followers.delete(sequence);
      return;
    }
    this.#masks.busy(sequence);
    if (follower === undefined) {
      const grammar = this.#grammars.get(request.grammar)!;
      follower = { matcher: await grammar.compiler.matcher(grammar.compiled), accepted: 0 };
      this.#followers.set(sequence, follower);
    }
    const { matcher } = follower;
    // What it has seen before, it does not look at again.
    for (let i = follower.accepted - request.known; i < request.tokens.length; i++) {
      const token = request.tokens[i]!;
      if (!matcher.isTerminated() && !matcher.acceptToken(token)) {
        return this.#lose(sequence, `token ${token} is not one that the text could go on with`);
      }
      follower.accepted++;
    }
    const mask = matcher.isTerminated() ? this.#onlyStops : await matcher.getNextTokenBitmask();
    if (!this.#allowsAny(mask)) return this.#lose(sequence, "no token of the model can go on with the text");
    this.#masks.publish(request, mask);
    this.#masks.busy(0);
  }

  #lose(sequence: number, message: string): void {
    this.#masks.busy(0);
    post({ type: "lost", message, sequence });
  }

  /** Bits beyond the vocabulary do not count. */
  #allowsAny(mask: Int32Array | Uint32Array): boolean {
    const last = mask.length - 1;
    for (let i = 0; i < last; i++) if (mask[i] !== 0) return true;
    const beyond = this.#vocabulary.offsets.length - 1 - 32 * last;
    return (mask[last]! & (beyond === 32 ? -1 : (1 << beyond) - 1)) !== 0;
  }

  #break(error: unknown): void {
    if (this.#broken) return;
    this.#broken = true;
    const sequence = this.#grammar === 0 ? this.#request.sequence : 0;
    post({ type: "broken", message: reasonOf(error), grammar: this.#grammar, sequence });
  }
}

function post(event: GrammarEvent): void {
  self.postMessage(event);
}

let worker: GrammarWorker | null = null;
/** Commands are done one after another. */
let last: Promise<void> = startLibrary();

async function obey(command: GrammarCommand): Promise<void> {
  if (command.type === "start") {
    worker = new GrammarWorker(command);
    void worker.run();
    post({ type: "started" });
  } else if (command.type === "compile") await worker!.compile(command.grammar, command.text, command.marks);
  else worker!.drop(command.grammar);
}

self.onmessage = ({ data }: MessageEvent<GrammarCommand>) => {
  last = last.then(() => obey(data));
};
