/**
 * The tokenizer in the metadata of a GGUF file.
 *
 * Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer
 *
 * @module
 */
import type { Tokenizer } from "@huggingface/tokenizers";
import { ModelError } from "../../errors.ts";
import { ChatTemplate } from "../chat_template.ts";
import { compileDecoder } from "../decoder.ts";
import { messageOf } from "../json.ts";
import { mergePriority, scorePriority } from "../merging.ts";
import { ModelTokenizer, type TokenizerParts } from "../tokenizer.ts";
import { createMergingTokenizer, type MergingModel } from "../tokenizer_library.ts";
import type { GgufMetadata } from "./metadata.ts";
import { PRE_TOKENIZERS, type PreTokenizer } from "./pre_tokenizers.ts";

/** What `tokenizer.ggml.token_type` says of a token. */
const TokenType = { NORMAL: 1, UNKNOWN: 2, CONTROL: 3, USER_DEFINED: 4, UNUSED: 5, BYTE: 6 } as const;

/** A model's tokenizer with what goes with it. */
export interface GgufTokenizer {
  tokenizer: ModelTokenizer;
  chatTemplate: ChatTemplate | null;
  /** Tokens that end an answer. */
  eosTokenIds: number[];
  /** Things worth telling the user once. */
  notes: string[];
}

/**
 * Control tokens that end a turn or a text in published models, whichever of them the file calls EOS: a chat model
 * says one, a base model the other.
 */
const ENDS = new Set([
  "<|eot_id|>",
  "<|eom_id|>",
  "<|end_of_text|>",
  "<|im_end|>",
  "<|endoftext|>",
  "<|end|>",
  "<end_of_turn>",
  "<EOT>",
  "<|EOT|>",
  "<\uff5cend\u2581of\u2581sentence\uff5c>",
]);

/** The vocabulary, read. */
interface Vocabulary {
  metadata: GgufMetadata;
  tokens: string[];
  types: ArrayLike<number>;
  /** Id by token. */
  ids: Map<string, number>;
}

/**
 * Reads the tokenizer and the chat template; merges are left for the first text. Throws a ModelError naming file and
 * key for a tokenizer that is missing, malformed or of a kind that is not supported.
 */
export function readGgufTokenizer(metadata: GgufMetadata, path: string): GgufTokenizer {
  const kind = metadata.string("tokenizer.ggml.model");
  if (kind !== "llama" && kind !== "gpt2") throw metadata.error("tokenizer.ggml.model", '"llama" or "gpt2"');
  const vocabulary = readVocabulary(metadata);
  const notes: string[] = [];
  const parts = kind === "llama"
    ? sentencePieceParts(vocabulary, path)
    : byteLevelParts(vocabulary, path, notes);
  const tokenizer = new ModelTokenizer(parts);
  const { tokens, types, ids } = vocabulary;
  const named = ["eos", "eot", "eom"].map((name) => metadata.number(`tokenizer.ggml.${name}_token_id`));
  const ends = [...ENDS].map((token) => ids.get(token)).filter((id) =>
    id !== undefined && types[id] === TokenType.CONTROL
  );
  const eosTokenIds = [...new Set([tokenizer.eosTokenId, ...named, ...ends])].filter((id) => id !== null)
    .filter((id) => id !== undefined);
  const variables = Object.fromEntries(
    (["bos", "eos", "unknown", "padding"] as const).flatMap((name) => {
      const id = metadata.number(`tokenizer.ggml.${name}_token_id`) ??
        (name === "bos" ? parts.bosTokenId : name === "eos" ? parts.eosTokenId : null);
      const token = id === null ? undefined : tokens[id];
      const variable =
        { bos: "bos_token", eos: "eos_token", unknown: "unk_token", padding: "pad_token" }[name];
      return token === undefined ? [] : [[variable, token]];
    }),
  );
  return { tokenizer, chatTemplate: readChatTemplate(metadata, variables, path), eosTokenIds, notes };
}

function readVocabulary(metadata: GgufMetadata): Vocabulary {
  const tokens = metadata.strings("tokenizer.ggml.tokens");
  if (tokens === undefined || tokens.length === 0) {
    throw metadata.error("tokenizer.ggml.tokens", "the tokens' texts");
  }
  const types = metadata.numbers("tokenizer.ggml.token_type") ??
    new Float64Array(tokens.length).fill(TokenType.NORMAL);
  if (types.length !== tokens.length) {
    throw metadata.error("tokenizer.ggml.token_type", `one for each of ${tokens.length} tokens`);
  }
  const ids = new Map<string, number>();
  for (let id = 0; id < tokens.length; id++) ids.set(tokens[id]!, id);
  return { metadata, tokens, types, ids };
}

/** The parts that both kinds have. */
function commonParts(
  { metadata, tokens, types }: Vocabulary,
  defaults: { bos: number | null; eos: number | null; addBos: boolean },
): Omit<TokenizerParts, "plan" | "library"> & { added: object[] } {
  const tokenId = (name: string, fallback: number | null) => {
    const key = `tokenizer.ggml.${name}_token_id`;
    const id = metadata.number(key) ?? fallback;
    // Some converters write -1, or 2^32 - 1, for none.
    return id !== null && id >= 0 && id < tokens.length ? id : null;
  };
  const bosTokenId = tokenId("bos", defaults.bos);
  const eosTokenId = tokenId("eos", defaults.eos);
  const special = new Set<number>();
  const literal = new Set<number>();
  const added: object[] = [];
  const texts: (string | undefined)[] = tokens.slice();
  for (let id = 0; id < tokens.length; id++) {
    const type = types[id];
    if (type === TokenType.UNUSED) texts[id] = undefined;
    if (type !== TokenType.CONTROL && type !== TokenType.USER_DEFINED && type !== TokenType.UNKNOWN) continue;
    literal.add(id);
    const content = tokens[id]!;
    if (type !== TokenType.USER_DEFINED) special.add(id);
    if (content !== "") {
      added.push({ id, content, special: type !== TokenType.USER_DEFINED, normalized: false });
    }
  }
  const flag = (name: string, fallback: boolean) => metadata.boolean(`tokenizer.ggml.${name}`) ?? fallback;
  return {
    tokens: texts,
    modelVocabSize: tokens.length,
    special,
    literal,
    bosTokenId,
    eosTokenId,
    specialTokens: {
      template: false,
      before: bosTokenId !== null && flag("add_bos_token", defaults.addBos) ? [bosTokenId] : [],
      after: eosTokenId !== null && flag("add_eos_token", false) ? [eosTokenId] : [],
    },
    added,
  };
}

/** SentencePiece's BPE: pieces with scores, spaces as marks, bytes for what is not in the vocabulary. */
function sentencePieceParts(vocabulary: Vocabulary, path: string): TokenizerParts {
  const { metadata, tokens, ids } = vocabulary;
  const scores = metadata.numbers("tokenizer.ggml.scores");
  if (scores?.length !== tokens.length) {
    throw metadata.error("tokenizer.ggml.scores", `one for each of ${tokens.length} tokens`);
  }
  const { added, ...parts } = commonParts(vocabulary, { bos: 1, eos: 2, addBos: true });
  const prefix = metadata.boolean("tokenizer.ggml.add_space_prefix") ?? true;
  const replace = { type: "Replace", pattern: { String: " " }, content: "\u2581" };
  const stages = {
    ...NO_STAGES,
    added_tokens: added,
    normalizer: prefix
      ? { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "\u2581" }, replace] }
      : replace,
  };
  const unknown = metadata.number("tokenizer.ggml.unknown_token_id") ?? 0;
  return {
    ...parts,
    plan: compileDecoder({
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "\u2581" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(prefix ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      ],
    }, path),
    library: once(path, stages, () => ({
      ids,
      priority: scorePriority(ids, scores),
      wholeWords: false,
      byteFallback: true,
      unknownToken: tokens[unknown] ?? null,
    })),
  };
}

/** GPT-2's byte-level BPE: a list of merges, over words that patterns cut out. */
function byteLevelParts(vocabulary: Vocabulary, path: string, notes: string[]): TokenizerParts {
  const { metadata, ids } = vocabulary;
  const name = metadata.string("tokenizer.ggml.pre");
  if (name === undefined) {
    notes.push(
      `${path} does not say how its tokenizer cuts words (tokenizer.ggml.pre): the default may not be the model's`,
    );
  }
  const rules = PRE_TOKENIZERS.get(name ?? "default");
  if (rules === undefined) {
    throw metadata.error("tokenizer.ggml.pre", `one of ${[...PRE_TOKENIZERS.keys()].join(", ")}`);
  }
  if (!metadata.has("tokenizer.ggml.merges")) {
    throw metadata.error("tokenizer.ggml.merges", "the list of merges");
  }
  const { added, ...parts } = commonParts(vocabulary, { bos: null, eos: null, addBos: rules.bos ?? false });
  const stages = {
    ...NO_STAGES,
    added_tokens: added,
    normalizer: rules.nfc ? { type: "NFC" } : null,
    pre_tokenizer: preTokenizer(rules),
  };
  return {
    ...parts,
    plan: compileDecoder({ type: "ByteLevel" }, path),
    library: once(path, stages, () => ({
      ids,
      priority: mergePriority(metadata.strings("tokenizer.ggml.merges")!),
      wholeWords: rules.wholeWords ?? false,
      byteFallback: false,
      unknownToken: null,
    })),
  };
}

const NO_STAGES = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };

function preTokenizer({ patterns }: PreTokenizer): object {
  const splits = patterns.map((pattern) => ({
    type: "Split",
    pattern: { Regex: pattern },
    behavior: "Isolated",
    invert: false,
  }));
  return {
    type: "Sequence",
    pretokenizers: [...splits, { type: "ByteLevel", add_prefix_space: false, use_regex: false }],
  };
}

/** A library's tokenizer that is made at the first call. */
function once(
  path: string,
  stages: Parameters<typeof createMergingTokenizer>[0],
  model: () => MergingModel,
): () => Tokenizer {
  let library: Tokenizer | undefined;
  return () => {
    try {
      return library ??= createMergingTokenizer(stages, model());
    } catch (error) {
      if (error instanceof ModelError) throw error;
      throw new ModelError(`${path}: cannot build the tokenizer: ${messageOf(error)}`, { cause: error });
    }
  };
}

/** `tokenizer.chat_template`, and beside it those of `tokenizer.chat_templates` by name. */
function readChatTemplate(
  metadata: GgufMetadata,
  variables: Readonly<Record<string, string>>,
  path: string,
): ChatTemplate | null {
  const templates = new Map<string, string>();
  const main = metadata.string("tokenizer.chat_template");
  if (main !== undefined) templates.set("default", main);
  for (const name of metadata.strings("tokenizer.chat_templates") ?? []) {
    const template = metadata.string(`tokenizer.chat_template.${name}`);
    if (template !== undefined) templates.set(name, template);
  }
  return templates.size === 0 ? null : new ChatTemplate(templates, variables, path);
}
