/**
 * A model's tokenizer: text to tokens by `@huggingface/tokenizers`, tokens to text by our own decoder.
 *
 * @module
 */
import type { Tokenizer } from "@huggingface/tokenizers";
import { join } from "node:path";
import type { DecoderPlan, Piece } from "./decoder.ts";
import { Detokenizer, type PieceSource } from "./detokenizer.ts";
import { readJson, readJsonIfPresent } from "./json.ts";
import { tokenizerParts } from "./tokenizer_json.ts";

/** What stands around a prompt. */
export interface SpecialTokens {
  /** Apply the tokenizer's post-processor. */
  template: boolean;
  before: readonly number[];
  after: readonly number[];
}

/** What a tokenizer is made of, whichever file it comes from. */
export interface TokenizerParts {
  /** Token by id; holes where the ids have holes. */
  tokens: readonly (string | undefined)[];
  /** The highest id plus one, without added tokens. */
  modelVocabSize: number;
  /** Tokens that are left out of text by default. */
  special: ReadonlySet<number>;
  /** Tokens that are text as they stand, which the decoder does not see. */
  literal: ReadonlySet<number>;
  plan: DecoderPlan;
  bosTokenId: number | null;
  eosTokenId: number | null;
  specialTokens: SpecialTokens;
  /** Cuts text; called again, it gives the same. */
  library(): Tokenizer;
}

/** See the module. Everything is synchronous once loaded. */
export class ModelTokenizer {
  /** The highest token id plus one, added tokens included. */
  readonly vocabSize: number;
  /** The same without added tokens. */
  readonly modelVocabSize: number;
  readonly bosTokenId: number | null;
  readonly eosTokenId: number | null;

  readonly #parts: TokenizerParts;
  /** Contributions of tokens that are not the first, as they come to be needed. */
  readonly #pieces: (Piece | undefined)[] = [];
  readonly #pieceSource: PieceSource;

  constructor(parts: TokenizerParts) {
    this.#parts = parts;
    this.vocabSize = parts.tokens.length;
    this.modelVocabSize = parts.modelVocabSize;
    this.bosTokenId = parts.bosTokenId;
    this.eosTokenId = parts.eosTokenId;
    const { plan, special, tokens } = parts;
    this.#pieceSource = {
      invalid: plan.invalid,
      strip: plan.strip,
      piece: (id, first, skip) => {
        if (skip && special.has(id)) return null;
        const token = tokens[id];
        if (token === undefined) return null;
        return first && !parts.literal.has(id) ? plan.piece(token, true) : this.#piece(id, token);
      },
    };
  }

  /**
   * From the content of tokenizer.json and tokenizer_config.json; `source` is named in errors. Throws a ModelError
   * where the tokenizer is malformed or of a kind that is not supported.
   */
  static fromJson(json: unknown, config: unknown, source = "tokenizer.json"): ModelTokenizer {
    return new ModelTokenizer(tokenizerParts(json, config, source));
  }

  /** Reads tokenizer.json and, if there is one, tokenizer_config.json. */
  static async fromFolder(path: string): Promise<ModelTokenizer> {
    const source = join(path, "tokenizer.json");
    const [json, config] = await Promise.all([
      readJson(source, "the tokenizer is read from it (tokenizer.model is not)"),
      readJsonIfPresent(join(path, "tokenizer_config.json")),
    ]);
    return ModelTokenizer.fromJson(json, config, source);
  }

  /**
   * Text to ids. Special tokens written in the text are recognised. addSpecialTokens: also those that the model
   * wants around a prompt, such as BOS; default true.
   */
  encode(text: string, options: { addSpecialTokens?: boolean } = {}): number[] {
    const add = options.addSpecialTokens ?? true;
    const { template, before, after } = this.#parts.specialTokens;
    const { ids } = this.#parts.library().encode(text, { add_special_tokens: add && template });
    return add && before.length + after.length > 0 ? [...before, ...ids, ...after] : ids;
  }

  /** Makes what the first text needs, so that it does not have to wait. */
  prepare(): void {
    this.#parts.library();
  }

  /**
   * Ids to text, as Python's `tokenizers` does without its clean-up, but for the one rule that
   * {@linkcode compileDecoder} names. Ids that the tokenizer lacks are left out. skipSpecialTokens: default true.
   */
  decode(ids: readonly number[], options: { skipSpecialTokens?: boolean } = {}): string {
    const detokenizer = this.detokenizer(options);
    let text = "";
    for (const id of ids) text += detokenizer.push(id);
    return text + detokenizer.finish();
  }

  /**
   * Starts an incremental decoder. With a prompt its text continues the prompt's: what the prompt itself gives is
   * left out, but for a character that the prompt leaves incomplete. skipSpecialTokens: default true.
   */
  detokenizer(options: { skipSpecialTokens?: boolean; prompt?: readonly number[] } = {}): Detokenizer {
    return new Detokenizer(this.#pieceSource, options.skipSpecialTokens ?? true, options.prompt ?? []);
  }

  /**
   * The token's own bytes as they stand inside a text: byte-level decoded, `<0xXX>` as a byte, a leading mark as a
   * space. A special token gives its name, an id without a token nothing.
   */
  tokenBytes(id: number): Uint8Array {
    const token = this.#parts.tokens[id];
    if (token === undefined) return new Uint8Array(0);
    if (this.#parts.special.has(id)) return utf8.encode(token);
    const piece = this.#piece(id, token);
    return piece.bytes?.slice() ?? utf8.encode(piece.text!);
  }

  /** Whether a token is left out of text by default: BOS, EOS, markers of turns. */
  isSpecial(id: number): boolean {
    return this.#parts.special.has(id);
  }

  #piece(id: number, token: string): Piece {
    return this.#pieces[id] ??= this.#parts.literal.has(id)
      ? { text: token, bytes: null }
      : this.#parts.plan.piece(token, false);
  }
}

const utf8 = new TextEncoder();
