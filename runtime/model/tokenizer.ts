/**
 * A model's tokenizer: text to tokens by `@huggingface/tokenizers`, tokens to text by our own decoder.
 *
 * @module
 */
import type { Tokenizer } from "@huggingface/tokenizers";
import { join } from "node:path";
import { ModelError } from "../errors.ts";
import { compileDecoder, type DecoderPlan, type Piece } from "./decoder.ts";
import { Detokenizer, type PieceSource } from "./detokenizer.ts";
import { messageOf, readJson, readJsonIfPresent } from "./json.ts";
import { createLibraryTokenizer, type TokenizerJson } from "./tokenizer_library.ts";

interface AddedToken {
  id: number;
  content: string;
  special?: boolean;
}

/** A field of tokenizer_config.json that holds a token: its text, or a record with it. */
type TokenField = string | { content?: string } | null | undefined;

/** The fields of tokenizer_config.json that are read here. */
interface TokenizerConfig {
  tokenizer_class?: string;
  bos_token?: TokenField;
  eos_token?: TokenField;
  add_bos_token?: boolean;
  add_eos_token?: boolean;
}

/** See the module. Everything is synchronous once loaded. */
export class ModelTokenizer {
  /** The highest token id plus one, added tokens included. */
  readonly vocabSize: number;
  /** The same without added tokens. */
  readonly modelVocabSize: number;
  readonly bosTokenId: number | null;
  readonly eosTokenId: number | null;

  readonly #library: Tokenizer;
  readonly #plan: DecoderPlan;
  /** Token by id; holes where the ids have holes. */
  readonly #tokens: (string | undefined)[];
  readonly #special = new Set<number>();
  /** Contributions of tokens that are not the first, as they come to be needed. */
  readonly #pieces: (Piece | undefined)[] = [];
  readonly #pieceSource: PieceSource;
  readonly #specialTokens: SpecialTokens;

  /**
   * Takes the content of tokenizer.json and tokenizer_config.json; `source` is named in errors. Throws a
   * ModelError where the tokenizer is malformed or of a kind that is not supported.
   */
  constructor(json: unknown, config: unknown, source = "tokenizer.json") {
    const model = (json as { model?: { vocab?: unknown } } | null)?.model;
    if (typeof model?.vocab !== "object" || model.vocab === null) {
      throw new ModelError(
        `${source}: model.vocab is ${JSON.stringify(model?.vocab) ?? "missing"}, wanted a table`,
      );
    }
    const file = json as TokenizerJson & { decoder?: unknown; added_tokens?: AddedToken[] };
    const settings = (config ?? {}) as TokenizerConfig;
    const added = file.added_tokens ?? [];
    this.#tokens = vocabulary(file.model.vocab);
    this.modelVocabSize = this.#tokens.length;
    for (const token of added) {
      this.#tokens[token.id] = token.content;
      if (token.special) this.#special.add(token.id);
    }
    this.vocabSize = this.#tokens.length;
    this.#plan = compileDecoder(file.decoder, source);
    try {
      this.#library = createLibraryTokenizer({ ...OPTIONAL_PARTS, ...file, added_tokens: added }, settings);
    } catch (error) {
      throw new ModelError(`${source}: cannot build the tokenizer: ${messageOf(error)}`, { cause: error });
    }
    this.bosTokenId = this.#idOf(settings.bos_token);
    this.eosTokenId = this.#idOf(settings.eos_token);
    this.#specialTokens = this.#chooseSpecialTokens(settings);
    this.#pieceSource = {
      invalid: this.#plan.invalid,
      strip: this.#plan.strip,
      piece: (id, first, skip) => {
        if (skip && this.#special.has(id)) return null;
        const token = this.#tokens[id];
        return token === undefined ? null : first ? this.#plan.piece(token, true) : this.#piece(id, token);
      },
    };
  }

  /** Reads tokenizer.json and, if there is one, tokenizer_config.json. */
  static async fromFolder(path: string): Promise<ModelTokenizer> {
    const source = join(path, "tokenizer.json");
    const [json, config] = await Promise.all([
      readJson(source, "the tokenizer is read from it (tokenizer.model is not)"),
      readJsonIfPresent(join(path, "tokenizer_config.json")),
    ]);
    return new ModelTokenizer(json, config, source);
  }

  /**
   * Text to ids. Special tokens written in the text are recognised. addSpecialTokens: also those that the model
   * wants around a prompt, such as BOS; default true.
   */
  encode(text: string, options: { addSpecialTokens?: boolean } = {}): number[] {
    const add = options.addSpecialTokens ?? true;
    const { template, before, after } = this.#specialTokens;
    const { ids } = this.#library.encode(text, { add_special_tokens: add && template });
    return add && before.length + after.length > 0 ? [...before, ...ids, ...after] : ids;
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
    const token = this.#tokens[id];
    if (token === undefined) return new Uint8Array(0);
    if (this.#special.has(id)) return utf8.encode(token);
    const piece = this.#piece(id, token);
    return piece.bytes?.slice() ?? utf8.encode(piece.text!);
  }

  /** Whether a token is left out of text by default: BOS, EOS, markers of turns. */
  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }

  #piece(id: number, token: string): Piece {
    return this.#pieces[id] ??= this.#plan.piece(token, false);
  }

  #idOf(field: TokenField): number | null {
    const content = typeof field === "string" ? field : field?.content;
    return content === undefined ? null : this.#library.token_to_id(content) ?? null;
  }

  /**
   * What stands around a prompt. The post-processor says it, with two additions of transformers: its Llama
   * classes go by add_bos_token (default true) and add_eos_token instead, and other classes add a BOS that
   * the post-processor does not.
   */
  #chooseSpecialTokens(config: TokenizerConfig): SpecialTokens {
    const bos = this.bosTokenId === null ? [] : [this.bosTokenId];
    const eos = this.eosTokenId === null ? [] : [this.eosTokenId];
    if (/^(Code)?LlamaTokenizer(Fast)?$/.test(config.tokenizer_class ?? "")) {
      return {
        template: false,
        before: config.add_bos_token ?? true ? bos : [],
        after: config.add_eos_token ?? false ? eos : [],
      };
    }
    const around = this.#library.encode("", { add_special_tokens: true }).ids;
    return {
      template: true,
      before: config.add_bos_token && bos.length > 0 && !around.includes(bos[0]!) ? bos : [],
      after: config.add_eos_token && eos.length > 0 && !around.includes(eos[0]!) ? eos : [],
    };
  }
}

interface SpecialTokens {
  /** Apply the tokenizer's post-processor. */
  template: boolean;
  before: readonly number[];
  after: readonly number[];
}

/** The library insists on these keys. */
const OPTIONAL_PARTS = { decoder: null, post_processor: null, pre_tokenizer: null, normalizer: null };

const utf8 = new TextEncoder();

/** Tokens by id: Unigram lists [token, score], the others map token to id. */
function vocabulary(vocab: unknown): (string | undefined)[] {
  const tokens: (string | undefined)[] = [];
  if (Array.isArray(vocab)) { for (const [token] of vocab as [string, number][]) tokens.push(token); }
  else for (const [token, id] of Object.entries(vocab as Record<string, number>)) tokens[id] = token;
  return tokens;
}
