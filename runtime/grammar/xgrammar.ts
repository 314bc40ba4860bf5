/**
 * XGrammar, as `@mlc-ai/web-xgrammar` has it: WebAssembly within one script. The package calls itself a module and
 * is a script that leaves its exports in a global variable, and it only starts where there is a `location`: in a
 * worker. Whatever it does not like aborts the whole instance; the reason goes to the console.
 *
 * @module
 */
import "@mlc-ai/web-xgrammar";
import type { CompiledGrammar, GrammarCompiler, GrammarMatcher, TokenizerInfo } from "@mlc-ai/web-xgrammar";
import type { Vocabulary } from "./vocabulary.ts";

/** What was left in the global variable. */
const library = (globalThis as unknown as { xgrammar: typeof import("@mlc-ai/web-xgrammar") }).xgrammar;

/** The last that the library had to say before it aborted. */
let complaint = "";

/** Starts the library: what it prints is kept, not printed. Once per worker, before anything else. */
export async function startLibrary(): Promise<void> {
  const { log, error } = console;
  Object.assign(console, {
    log: () => {},
    error: (...words: unknown[]) => {
      const text = words.join(" ");
      if (text.includes("[FATAL]")) complaint = text;
    },
  });
  // It takes hold of the console when it is first used.
  (await library.Grammar.fromEBNF('root ::= "a"')).dispose();
  Object.assign(console, { log, error });
}

/** What an error of the library was about, without the places in its sources. */
export function reasonOf(error: unknown): string {
  const text = complaint.replace(/^.*?\[FATAL\] \S+: /s, "").replace(/^Check failed: .*? is false: /s, "")
    .trim();
  complaint = "";
  return text !== "" ? text : error instanceof Error ? error.message : String(error);
}

/** Reads a grammar without compiling it; throws when it is not one. */
export async function readGrammar(text: string): Promise<void> {
  (await library.Grammar.fromEBNF(text)).dispose();
}

/** Compiles grammars for one vocabulary. */
export class Compiler {
  readonly #compiler: GrammarCompiler;
  readonly #info: TokenizerInfo;
  readonly #stopTokens: number[];

  private constructor(compiler: GrammarCompiler, info: TokenizerInfo, stopTokens: readonly number[]) {
    this.#compiler = compiler;
    this.#info = info;
    this.#stopTokens = [...stopTokens];
  }

  /** `marks`: whether the vocabulary's marks are text. */
  static async create(
    { bytes, offsets, marks, stopTokens }: Vocabulary,
    withMarks: boolean,
  ): Promise<Compiler> {
    const none = new Set(withMarks ? [] : marks);
    const tokens: Uint8Array[] = [];
    for (let id = 0; id + 1 < offsets.length; id++) {
      tokens.push(none.has(id) ? new Uint8Array(0) : bytes.slice(offsets[id], offsets[id + 1]));
    }
    // Typed as texts; bytes are passed as they are, which a text could not do for half a character.
    const info = await library.TokenizerInfo.createTokenizerInfo(
      tokens as unknown as string[],
      "raw",
      false,
      tokens.length,
      [...stopTokens],
    );
    return new Compiler(await library.GrammarCompiler.createGrammarCompiler(info, false), info, stopTokens);
  }

  compile(text: string): Promise<CompiledGrammar> {
    return this.#compiler.compileGrammar(text);
  }

  matcher(grammar: CompiledGrammar): Promise<GrammarMatcher> {
    return library.GrammarMatcher.createGrammarMatcher(grammar, this.#stopTokens);
  }

  get vocab(): number {
    return this.#info.getVocabSize();
  }
}

export type { CompiledGrammar, GrammarMatcher };
