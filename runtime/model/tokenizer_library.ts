/**
 * `@huggingface/tokenizers`, with what it does differently from the Python library put right.
 *
 * Upstream findings in 0.2.0, each pinned by a golden test in tests/model/tokenizer_test.ts:
 *  - Unigram ignores `byte_fallback` when it encodes: unknown characters become the unknown token.
 *  - The Metaspace pre-tokenizer ignores `split` (default true) and the older `add_prefix_space`.
 *  - Decoding drops U+FEFF and counts U+FFFD differently after invalid bytes; decoding is ours anyway.
 *
 * @module
 */
import { Tokenizer } from "@huggingface/tokenizers";
import { type Priority, WordMerger } from "./merging.ts";

/** The parts of the library's internals that are put right. */
interface Internals {
  model: {
    _call(tokens: string[]): string[];
    encode(tokens: string[]): string[];
    tokens_to_ids: ReadonlyMap<string, number>;
    unk_token?: string;
    merges?: [string, string][];
    end_of_word_suffix?: string | null;
    ignore_merges?: boolean;
  };
  pre_tokenizer: PreTokenizer | null;
}

interface PreTokenizer {
  tokenizers?: PreTokenizer[];
  prepend_scheme?: string;
  pre_tokenize_text(text: string, options?: unknown): string[];
}

interface StageConfig {
  type?: string;
  pretokenizers?: StageConfig[];
  replacement?: string;
  split?: boolean;
  prepend_scheme?: string;
  add_prefix_space?: boolean;
}

/** The fields of a tokenizer.json that are read here. */
export interface TokenizerJson {
  model: { type?: string; byte_fallback?: boolean; vocab: unknown };
  pre_tokenizer?: unknown;
  [field: string]: unknown;
}

/** Builds the library's tokenizer. Throws what the library throws. */
export function createLibraryTokenizer(json: TokenizerJson, config: object): Tokenizer {
  const library = new Tokenizer(json as object, config);
  const internals = library as unknown as Internals;
  if (json.model.type === "Unigram" && json.model.byte_fallback) addByteFallback(internals.model);
  fixMetaspace(json.pre_tokenizer as StageConfig | null, internals.pre_tokenizer);
  if (json.model.type === "BPE") splitBpeAtMarks(internals.model);
  return library;
}

/** BPE whose vocabulary is not in a tokenizer.json. */
export interface MergingModel {
  /** Id by token. */
  ids: ReadonlyMap<string, number>;
  priority: Priority;
  /** Words of the vocabulary are taken whole, whatever the merges make of them. */
  wholeWords: boolean;
  /** What is not in the vocabulary becomes `<0xXX>` for each byte, where those are. */
  byteFallback: boolean;
  unknownToken: string | null;
}

/**
 * The library's tokenizer around a model of ours: it finds added tokens, normalizes and cuts into words. Its own BPE
 * takes half a second to set up for 128,000 tokens, and knows no scores. Throws what the library throws.
 */
export function createMergingTokenizer(stages: Omit<TokenizerJson, "model">, model: MergingModel): Tokenizer {
  const library = new Tokenizer({ ...stages, model: { type: "BPE", vocab: {}, merges: [] } }, {});
  const internals = library as unknown as Internals;
  const { ids, wholeWords, byteFallback, unknownToken } = model;
  const merger = new WordMerger(model.priority);
  const atMarks = ids.has(MARK) && !CROSSES_MARK.test([...ids.keys()].join("\n"));
  internals.model.tokens_to_ids = ids;
  internals.model.encode = (words) => {
    const out: string[] = [];
    for (const word of atMarks ? words.flatMap((word) => word.split(WORDS)) : words) {
      if (wholeWords && ids.has(word)) out.push(word);
      else {
        for (const piece of merger.pieces(word)) {
          if (ids.has(piece)) out.push(piece);
          else if (byteFallback) {
            out.push(...byteTokens(piece).map((byte) => ids.has(byte) ? byte : unknownToken ?? ""));
          } else if (unknownToken !== null) out.push(unknownToken);
        }
      }
    }
    return out.filter((token) => token !== "");
  };
  return library;
}

/** SentencePiece's mark for a space. */
const MARK = "\u2581";

/**
 * SentencePiece-style BPE sees a whole text as one word, and the library then takes 7 µs a character and caches
 * nothing. Where no merge joins anything to a mark after it, the words before and after never interact: handing
 * them over one by one gives the same tokens, many of them from the cache.
 */
function splitBpeAtMarks(model: Internals["model"]): void {
  const crosses = ([left, right]: [string, string]) => right.startsWith(MARK) && !left.endsWith(MARK);
  if (!model.tokens_to_ids.has(MARK) || model.end_of_word_suffix || model.merges?.some(crosses) !== false) {
    return;
  }
  const encode = model.encode;
  model.encode = (tokens) => encode.call(model, tokens.flatMap((token) => token.split(WORDS)));
}

/** Between anything and a mark after it, but not inside a run of marks. */
const WORDS = new RegExp(`(?<=[^${MARK}])(?=${MARK})`, "u");
/** The same in a list of tokens, a line each. */
const CROSSES_MARK = new RegExp(`[^${MARK}\n]${MARK}`, "u");

const utf8 = new TextEncoder();

/** A text as SentencePiece's tokens for bytes. */
function byteTokens(text: string): string[] {
  return Array.from(
    utf8.encode(text),
    (byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
}

/** As `Unigram::tokenize` does in Rust: a piece outside the vocabulary becomes bytes if all of them are inside. */
function addByteFallback(model: Internals["model"]): void {
  const known = model.tokens_to_ids;
  model._call = (tokens) => {
    const out: string[] = [];
    for (const piece of model.encode(tokens)) {
      if (known.has(piece)) {
        out.push(piece);
        continue;
      }
      const bytes = byteTokens(piece);
      if (bytes.every((byte) => known.has(byte))) out.push(...bytes);
      else if (model.unk_token !== undefined && out.at(-1) !== model.unk_token) out.push(model.unk_token);
    }
    return out;
  };
}

function fixMetaspace(config: StageConfig | null | undefined, stage: PreTokenizer | null | undefined): void {
  if (!config || !stage) return;
  if (config.type === "Sequence") {
    config.pretokenizers?.forEach((child, i) => fixMetaspace(child, stage.tokenizers?.[i]));
  }
  if (config.type !== "Metaspace") return;
  if (config.prepend_scheme === undefined && config.add_prefix_space === false) {
    stage.prepend_scheme = "never";
  }
  if (config.split === false) return;
  const mark = config.replacement ?? "\u2581";
  const whole = stage.pre_tokenize_text;
  stage.pre_tokenize_text = function (text, options) {
    return whole.call(this, text, options).flatMap((part) => splitBefore(part, mark));
  };
}

/** Cuts a text before each `mark`. */
function splitBefore(text: string, mark: string): string[] {
  const parts: string[] = [];
  let start = 0;
  for (let at = text.indexOf(mark, 1); at >= 0; at = text.indexOf(mark, at + 1)) {
    parts.push(text.slice(start, at));
    start = at;
  }
  if (start < text.length) parts.push(text.slice(start));
  return parts;
}
