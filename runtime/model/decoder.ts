/**
 * The `decoder` of a tokenizer.json, compiled into what one token contributes to the text, so that text can be
 * streamed. Every chain that published language models use has the same form: a map of each token, bytes that
 * are joined to characters, and a strip of the whole text.
 *
 * @module
 */
import { ModelError } from "../errors.ts";
import { wholeUtf8 } from "./utf8.ts";

/** What one token contributes. */
export interface Piece {
  /** The token's text; null for bytes that are no whole characters. */
  text: string | null;
  /** Its bytes where neighbours may complete them to characters; null for a token that is text. */
  bytes: Uint8Array | null;
}

/** A compiled decoder. */
export interface DecoderPlan {
  /** The contribution of a token: the first one of a text may differ. */
  piece(token: string, first: boolean): Piece;
  /** How bytes that are no character are marked: see Utf8Stream. */
  invalid: "subpart" | "byte";
  /** Characters to strip at both ends of the whole text: up to `start` and `stop` times `content`. */
  strip: { content: string; start: number; stop: number } | null;
}

/** The fields of the stages that are read here. */
interface DecoderConfig {
  type: string;
  decoders?: DecoderConfig[];
  pattern?: { String?: string; Regex?: string };
  content?: string;
  start?: number;
  stop?: number;
  replacement?: string;
  prepend_scheme?: string;
  add_prefix_space?: boolean;
  prefix?: string;
  cleanup?: boolean;
}

type TokenMap = (token: string, first: boolean) => string;

/**
 * Compiles the `decoder` of a tokenizer.json. Throws a ModelError for stages, or an order of stages, that
 * cannot be computed token by token.
 *
 * One rule differs from Python's `tokenizers` on purpose: in a run of `<0xXX>` tokens that is not valid UTF-8 as
 * a whole, only the invalid bytes become U+FFFD, as in SentencePiece, and not every byte of the run. Otherwise
 * no character of a run could be shown before the run ends, and an answer cut in the middle of its last
 * character would lose the ones before it too.
 */
export function compileDecoder(config: unknown, source: string): DecoderPlan {
  if (config === null || config === undefined) {
    return textPlan([(token, first) => first ? token : ` ${token}`], false, null);
  }
  const stages = flatten(config as DecoderConfig);
  const refuse = (stage: DecoderConfig, why: string) =>
    new ModelError(
      `${source}: decoder ${stage.type} ${why} (decoders: ${stages.map((s) => s.type).join(", ")})`,
    );

  if (stages.length === 1 && stages[0]!.type === "ByteLevel") return byteLevelPlan();
  const maps: TokenMap[] = [];
  let byteFallback = false;
  let fused = false;
  let strip: DecoderPlan["strip"] = null;
  for (const stage of stages) {
    switch (stage.type) {
      case "ByteFallback":
        if (fused) throw refuse(stage, "after Fuse is not supported");
        byteFallback = true;
        break;
      case "Fuse":
        fused = true;
        break;
      case "Strip": {
        const rule = { content: stage.content ?? " ", start: stage.start ?? 0, stop: stage.stop ?? 0 };
        if (fused && strip === null) strip = rule;
        else if (!fused && !byteFallback) maps.push((token) => stripText(token, rule));
        else {throw refuse(
            stage,
            fused ? "twice after Fuse is not supported" : "after ByteFallback needs Fuse before it",
          );}
        break;
      }
      case "Replace":
      case "Metaspace":
      case "WordPiece":
        if (fused || byteFallback) throw refuse(stage, "after ByteFallback or Fuse is not supported");
        maps.push(tokenMap(stage, source));
        break;
      default:
        throw refuse(stage, "is not supported");
    }
  }
  return textPlan(maps, byteFallback, strip);
}

function flatten(config: DecoderConfig): DecoderConfig[] {
  return config.type === "Sequence" ? (config.decoders ?? []).flatMap(flatten) : [config];
}

function textPlan(
  maps: readonly TokenMap[],
  byteFallback: boolean,
  strip: DecoderPlan["strip"],
): DecoderPlan {
  return {
    invalid: "byte",
    strip,
    piece(token, first) {
      const text = maps.reduce((text, map) => map(text, first), token);
      const byte = byteFallback ? /^<0x([0-9A-Fa-f]{2})>$/.exec(text)?.[1] : undefined;
      if (byte === undefined) return { text, bytes: null };
      const bytes = Uint8Array.of(parseInt(byte, 16));
      return { text: wholeUtf8(bytes), bytes };
    },
  };
}

/** GPT-2's alphabet: printable characters stand for themselves, the other bytes for U+0100 and up. */
const BYTE_OF_CHAR: ReadonlyMap<string, number> = (() => {
  const bytes = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    bytes.set(String.fromCharCode(printable ? byte : next++), byte);
  }
  return bytes;
})();

const utf8 = new TextEncoder();

/** Bytes of a byte-level token. One that has a character outside the alphabet is text, in UTF-8. */
function byteLevelBytes(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = BYTE_OF_CHAR.get(token[i]!);
    if (byte === undefined) return utf8.encode(token);
    bytes[i] = byte;
  }
  return bytes;
}

function byteLevelPlan(): DecoderPlan {
  return {
    invalid: "subpart",
    strip: null,
    piece(token) {
      const bytes = byteLevelBytes(token);
      return { text: wholeUtf8(bytes), bytes };
    },
  };
}

function tokenMap(stage: DecoderConfig, source: string): TokenMap {
  if (stage.type === "Replace") {
    const content = stage.content ?? "";
    if (stage.pattern?.String !== undefined) {
      const pattern = stage.pattern.String;
      return (token) => token.replaceAll(pattern, () => content);
    }
    try {
      const pattern = new RegExp(stage.pattern?.Regex ?? "", "gu");
      return (token) => token.replace(pattern, () => content);
    } catch (error) {
      throw new ModelError(`${source}: decoder Replace has a pattern that JavaScript cannot read`, {
        cause: error,
      });
    }
  }
  if (stage.type === "Metaspace") {
    const mark = stage.replacement ?? "\u2581";
    const scheme = stage.prepend_scheme ?? (stage.add_prefix_space === false ? "never" : "always");
    return (token, first) => token.replaceAll(mark, first && scheme !== "never" ? "" : " ");
  }
  const prefix = stage.prefix ?? "##";
  const tidy = stage.cleanup === false ? (text: string) => text : cleanUp;
  return (token, first) =>
    tidy(first ? token : token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`);
}

/** The spaces that WordPiece took apart and its decoder puts back together, token by token. */
function cleanUp(text: string): string {
  return text.replaceAll(" .", ".").replaceAll(" ?", "?").replaceAll(" !", "!").replaceAll(" ,", ",")
    .replaceAll(" ' ", "'").replaceAll(" n't", "n't").replaceAll(" 'm", "'m").replaceAll(" do not", " don't")
    .replaceAll(" 's", "'s").replaceAll(" 've", "'ve").replaceAll(" 're", "'re");
}

function stripText(text: string, rule: { content: string; start: number; stop: number }): string {
  let begin = 0;
  while (begin < rule.start && text[begin] === rule.content) begin++;
  let end = text.length;
  while (text.length - end < rule.stop && end > begin && text[end - 1] === rule.content) end--;
  return text.slice(begin, end);
}
