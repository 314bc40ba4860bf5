/**
 * How byte-level vocabularies of GGUF files want a text cut into words: `tokenizer.ggml.pre` names a published model
 * whose tokenizer.json has the patterns.
 *
 * @module
 */

/** What a name of `tokenizer.ggml.pre` stands for. */
export interface PreTokenizer {
  /** Each cuts what those before it left, and its matches stand alone. */
  patterns: readonly string[];
  /** Words of the vocabulary are taken whole, whatever the merges make of them. */
  wholeWords?: true;
  /** BOS before a prompt where the file does not say. */
  bos?: true;
  /** Texts are brought into Unicode's composed form first. */
  nfc?: true;
}

const GPT2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

/** Llama 3's and Qwen 2's pattern differ in how many digits a word has. */
const words = (digits: string) =>
  String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|` + digits +
  String.raw`| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
const LLAMA3 = words(String.raw`\p{N}{1,3}`);
const QWEN2 = words(String.raw`\p{N}`);

/** Upper and lower case apart; `after` follows a word. */
const cased = (after: string, digits: string) => {
  const [upper, lower] = [String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`, String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`];
  const begin = String.raw`[^\r\n\p{L}\p{N}]?`;
  return `${begin}${upper}*${lower}+${after}|${begin}${upper}+${lower}*${after}|${digits}` +
    String.raw`| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
};
const TEKKEN = cased("", String.raw`\p{N}`);
const GPT4O = cased("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", String.raw`\p{N}{1,3}`);

/** Chinese, most of what lies below it, and Korean, as DeepSeek's patterns have them. */
const DEEPSEEK_EAST = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+";
/** Letters with case, of the Unicode version that DeepSeek took them from. */
const DEEPSEEK_LETTERS = String.raw`\s?[` +
  "A-Za-z" +
  "\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af" +
  "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5" +
  "\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba" +
  "\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45" +
  "\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe" +
  "\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc" +
  "\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139" +
  "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3" +
  "\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06" +
  "\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\u{10400}-\u{1044f}\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}" +
  "\u{10c80}-\u{10cb2}\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}\u{1e900}-\u{1e943}" +
  "]+";
const DEEPSEEK_MARKS = String.raw`\s?[!-/:-~` + "\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+";

/** Bloom's words; its digits stay in them, but for models that cut them off after. */
const BLOOM = String.raw` ?[^(\s|.,!?…。，、।۔،)]+`;

const TABLE: readonly [names: readonly string[], rules: PreTokenizer][] = [
  [["gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4", "a.x-4.0", "gigachat", "mellum"], {
    patterns: [GPT2],
  }],
  [
    ["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
    { patterns: [LLAMA3], wholeWords: true, bos: true },
  ],
  [["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], { patterns: [LLAMA3] }],
  [["qwen2"], { patterns: [QWEN2], nfc: true }],
  [["deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "grok-2"], { patterns: [QWEN2] }],
  [["tekken"], { patterns: [TEKKEN], wholeWords: true, bos: true }],
  [["gpt-4o", "llama4", "kanana2"], { patterns: [GPT4O] }],
  [
    ["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"],
    { patterns: [String.raw`\p{N}`, GPT2] },
  ],
  [
    ["falcon"],
    { patterns: [String.raw`[\p{P}\$\+<=>\^~\|` + "`]+", GPT2, "[0-9][0-9][0-9]"] },
  ],
  [["deepseek-coder"], {
    patterns: [
      String.raw`[\r\n]`,
      String.raw`\s?\p{L}+`,
      String.raw`\s?\p{P}+`,
      DEEPSEEK_EAST,
      String.raw`\p{N}`,
    ],
  }],
  [["deepseek-llm"], {
    patterns: [
      String.raw`[\r\n]`,
      DEEPSEEK_LETTERS,
      DEEPSEEK_MARKS,
      String.raw`\s+$`,
      DEEPSEEK_EAST,
      String.raw`\p{N}+`,
    ],
  }],
  [["deepseek-v3", "hunyuan-dense"], {
    patterns: [
      String.raw`\p{N}{1,3}`,
      "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
      String.raw`[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_` + "`" + String.raw`{|}~][A-Za-z]+` +
      String.raw`|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
    ],
  }],
  [["poro-chat", "bloom", "gpt3-finnish"], { patterns: [BLOOM] }],
  [["viking"], { patterns: [BLOOM, String.raw`\p{N}`] }],
  // What llama.cpp does with a file that does not say.
  [["default"], {
    patterns: [String.raw`[\p{P}\$\+<=>\^~\|]+`, GPT2, String.raw`\p{N}+`, "[0-9][0-9][0-9]"],
  }],
];

/** The rules by name. */
export const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map(
  TABLE.flatMap(([names, rules]) => names.map((name) => [name, rules] as const)),
);
