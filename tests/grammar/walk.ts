/**
 * Walks through grammars at random: takes any token that a mask allows, as the most creative of models would.
 *
 * @module
 */
import { join } from "node:path";
import { allocateBoard, MaskClient } from "../../runtime/grammar/board.ts";
import { type GrammarLimits, GrammarService } from "../../runtime/grammar/service.ts";
import { loadVocabulary } from "../../runtime/grammar/vocabulary.ts";
import { ModelTokenizer } from "../../runtime/model/tokenizer.ts";
import { greedyOptions, Sequence } from "../../runtime/sequence.ts";
import { FIXTURES } from "../golden.ts";

const SLOTS = 4;
const MOST_TOKENS = 4096;

/** What a walk came to. */
export interface Walk {
  text: string;
  tokens: number[];
  /** Whether the grammar's end was reached, and not the limit of tokens. */
  whole: boolean;
}

/** Numbers from 0 to 1, the same for the same seed. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A grammar service for a tokenizer, with the loop's part played by the test. */
export class Walker implements Disposable {
  readonly tokenizer: ModelTokenizer;
  readonly service: GrammarService;
  readonly client: MaskClient;
  readonly stopToken: number;
  /** Sequences that broke the worker. */
  readonly broken: number[] = [];
  readonly #closers: ReadonlySet<number>;
  #nextId = 1;

  private constructor(tokenizer: ModelTokenizer, limits: GrammarLimits) {
    this.tokenizer = tokenizer;
    this.stopToken = tokenizer.eosTokenId ?? tokenizer.vocabSize - 1;
    const vocab = tokenizer.vocabSize;
    const board = allocateBoard(SLOTS, MOST_TOKENS, vocab);
    this.client = new MaskClient(board);
    this.service = new GrammarService({
      ...limits,
      board,
      vocabulary: () => loadVocabulary(tokenizer, vocab, [this.stopToken]),
      onBroken: (sequence) => this.broken.push(sequence),
    });
    const closes = (id: number) => /^["}\],:]/.test(new TextDecoder().decode(tokenizer.tokenBytes(id)));
    this.#closers = new Set(Array.from({ length: vocab }, (_, id) => id).filter(closes));
  }

  static async of(fixture: string, limits: GrammarLimits = {}): Promise<Walker> {
    return new Walker(await ModelTokenizer.fromFolder(join(FIXTURES, "tokenizers", fixture)), limits);
  }

  sequence(grammar: number, slot: number): Sequence {
    const sequence = new Sequence({
      ...greedyOptions(this.#nextId++, Int32Array.of(0), MOST_TOKENS),
      stopTokens: Int32Array.of(this.stopToken),
      grammar,
    });
    sequence.slot = slot;
    return sequence;
  }

  /** The tokens that may come next. */
  async allowed(sequence: Sequence): Promise<number[]> {
    for (let i = 0; !this.client.ready(sequence); i++) {
      if (i > 24_000) throw new Error(`no mask for sequence ${sequence.id}`);
      this.client.begin();
      if (this.client.ready(sequence)) break;
      await new Promise((resolve) => setTimeout(resolve, i < 100 ? 0 : 5));
    }
    const mask = this.client.mask(sequence);
    const tokens: number[] = [];
    for (let id = 0; id < this.tokenizer.vocabSize; id++) {
      if (mask[id >> 5]! >>> (id & 31) & 1) tokens.push(id);
    }
    return tokens;
  }

  take(sequence: Sequence, token: number): void {
    sequence.tokens[sequence.length++] = token;
  }

  /** A walk through a grammar's text. Quotes, brackets and the end are preferred, so that it comes to one. */
  async walk(grammar: string, seed: number, most = 400, least = 0): Promise<Walk> {
    const next = random(seed);
    const id = await this.service.acquire(grammar);
    const sequence = this.sequence(id, seed % SLOTS);
    const tokens: number[] = [];
    let whole = false;
    let bytes: number[] = [];
    while (tokens.length < most && !whole) {
      const allowed = await this.allowed(sequence);
      const others = allowed.length > 1 ? allowed.filter((token) => token !== this.stopToken) : allowed;
      const closers = others.filter((token) => this.#closers.has(token));
      const some = closers.length > 0 && next() < 0.3 ? closers : others;
      const ends = tokens.length >= least && allowed.includes(this.stopToken) && next() < 0.5;
      let token = ends ? this.stopToken : some[Math.floor(next() * some.length)]!;
      // XGrammar knows how many bytes a character has, and not which of them are one: a model does.
      for (let i = 0; i < 50 && !isUtf8(bytes, this.tokenizer.tokenBytes(token)); i++) {
        token = others[Math.floor(next() * others.length)]!;
      }
      bytes = [...bytes, ...this.tokenizer.tokenBytes(token)].slice(-8);
      whole = token === this.stopToken;
      if (!whole) tokens.push(token);
      this.take(sequence, token);
    }
    this.client.close(sequence);
    this.service.release(id);
    return { text: this.text(tokens), tokens, whole };
  }

  /** The text that tokens add to a prompt's. */
  text(tokens: readonly number[]): string {
    const bytes = tokens.flatMap((token) => [...this.tokenizer.tokenBytes(token)]);
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
  }

  [Symbol.dispose](): void {
    this.service.close();
  }
}

/** Whether `bytes` go on from the end of a text without a wrong character. */
function isUtf8(end: readonly number[], bytes: Uint8Array): boolean {
  const lead = end.findLastIndex((byte) => (byte & 0xc0) !== 0x80);
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(
      Uint8Array.from([...end.slice(Math.max(0, lead)), ...bytes]),
      {
        stream: true,
      },
    );
    return true;
  } catch {
    return false;
  }
}

const TAILS = [
  ...[
    "",
    "0",
    "e",
    "ue",
    "rue",
    "se",
    "lse",
    "alse",
    "l",
    "ll",
    "ull",
    "null",
    ": null",
    " null",
    '"": null',
  ],
  ...[' "": null', ':"', "0:null"],
];

/** Whether JSON can go on from here: some end makes it whole. */
export function isJsonPrefix(text: string): boolean {
  const stack: string[] = [];
  let inString = false, escape = "";
  for (const char of text) {
    if (escape !== "") {
      escape = escape[1] === undefined && char !== "u" || escape.length === 5 ? "" : escape + char;
    } else if (inString && char === "\\") escape = char;
    else if (char === '"') inString = !inString;
    else if (!inString && (char === "{" || char === "[")) stack.push(char === "{" ? "}" : "]");
    else if (!inString && (char === "}" || char === "]")) stack.pop();
  }
  const inner = escape === "\\" ? "n" : escape === "" ? "" : "0".repeat(6 - escape.length);
  const rest = stack.toReversed().join("");
  return TAILS.some((tail) => {
    try {
      JSON.parse(text + inner + (inString ? '"' : "") + tail + rest);
      return true;
    } catch {
      return false;
    }
  });
}
