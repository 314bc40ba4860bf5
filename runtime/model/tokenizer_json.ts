/**
 * tokenizer.json and tokenizer_config.json, read into the parts of a tokenizer.
 *
 * @module
 */
import type { Tokenizer } from "@huggingface/tokenizers";
import { ModelError } from "../errors.ts";
import { compileDecoder } from "./decoder.ts";
import { messageOf } from "./json.ts";
import type { SpecialTokens, TokenizerParts } from "./tokenizer.ts";
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

/** See ModelTokenizer.fromJson(). */
export function tokenizerParts(json: unknown, config: unknown, source: string): TokenizerParts {
  const model = (json as { model?: { vocab?: unknown } } | null)?.model;
  if (typeof model?.vocab !== "object" || model.vocab === null) {
    throw new ModelError(
      `${source}: model.vocab is ${JSON.stringify(model?.vocab) ?? "missing"}, wanted a table`,
    );
  }
  const file = json as TokenizerJson & { decoder?: unknown; added_tokens?: AddedToken[] };
  const settings = (config ?? {}) as TokenizerConfig;
  const added = file.added_tokens ?? [];
  const tokens = vocabulary(file.model.vocab);
  const modelVocabSize = tokens.length;
  const special = new Set<number>();
  for (const token of added) {
    tokens[token.id] = token.content;
    if (token.special) special.add(token.id);
  }
  const plan = compileDecoder(file.decoder, source);
  let library: Tokenizer;
  try {
    library = createLibraryTokenizer({ ...OPTIONAL_PARTS, ...file, added_tokens: added }, settings);
  } catch (error) {
    throw new ModelError(`${source}: cannot build the tokenizer: ${messageOf(error)}`, { cause: error });
  }
  const idOf = (field: TokenField): number | null => {
    const content = typeof field === "string" ? field : field?.content;
    return content === undefined ? null : library.token_to_id(content) ?? null;
  };
  const bosTokenId = idOf(settings.bos_token);
  const eosTokenId = idOf(settings.eos_token);
  return {
    tokens,
    modelVocabSize,
    special,
    literal: new Set(),
    plan,
    bosTokenId,
    eosTokenId,
    specialTokens: chooseSpecialTokens(settings, library, bosTokenId, eosTokenId),
    library: () => library,
  };
}

/** The library insists on these keys. */
const OPTIONAL_PARTS = { decoder: null, post_processor: null, pre_tokenizer: null, normalizer: null };

/** Tokens by id: Unigram lists [token, score], the others map token to id. */
function vocabulary(vocab: unknown): (string | undefined)[] {
  const tokens: (string | undefined)[] = [];
  if (Array.isArray(vocab)) { for (const [token] of vocab as [string, number][]) tokens.push(token); }
  else for (const [token, id] of Object.entries(vocab as Record<string, number>)) tokens[id] = token;
  return tokens;
}

/**
 * What stands around a prompt. The post-processor says it, with two additions of transformers: its Llama
 * classes go by add_bos_token (default true) and add_eos_token instead, and other classes add a BOS that
 * the post-processor does not.
 */
function chooseSpecialTokens(
  config: TokenizerConfig,
  library: Tokenizer,
  bosTokenId: number | null,
  eosTokenId: number | null,
): SpecialTokens {
  const bos = bosTokenId === null ? [] : [bosTokenId];
  const eos = eosTokenId === null ? [] : [eosTokenId];
  if (/^(Code)?LlamaTokenizer(Fast)?$/.test(config.tokenizer_class ?? "")) {
    return {
      template: false,
      before: config.add_bos_token ?? true ? bos : [],
      after: config.add_eos_token ?? false ? eos : [],
    };
  }
  const around = library.encode("", { add_special_tokens: true }).ids;
  return {
    template: true,
    before: config.add_bos_token && bos.length > 0 && !around.includes(bos[0]!) ? bos : [],
    after: config.add_eos_token && eos.length > 0 && !around.includes(eos[0]!) ? eos : [],
  };
}
