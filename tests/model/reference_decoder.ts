/**
 * Decoding written down a second time, as plainly as possible: whole lists, stage by stage, after the Rust source of
 * `tokenizers` (src/decoders and src/pre_tokenizers). Goldens hold it to the original; it holds our streaming
 * decoder to the same for sequences that no golden has.
 */

// deno-lint-ignore no-explicit-any -- the files are taken as they are
type Json = any;

export function referenceDecode(
  json: Json,
  ids: readonly number[],
  skipSpecialTokens: boolean,
  byteRuns: "python" | "sentencepiece",
): string {
  const tokens: string[] = [];
  for (const id of ids) {
    const added = json.added_tokens.find((t: { id: number }) => t.id === id);
    if (added?.special && skipSpecialTokens) continue;
    const token = added?.content ?? modelTokens(json)[id];
    if (token !== undefined) tokens.push(token);
  }
  return json.decoder === null ? tokens.join(" ") : stage(json.decoder, tokens, byteRuns).join("");
}

const vocabularies = new WeakMap<object, string[]>();

function modelTokens(json: Json): string[] {
  let tokens = vocabularies.get(json);
  if (tokens === undefined) {
    tokens = [];
    if (Array.isArray(json.model.vocab)) tokens = json.model.vocab.map(([token]: [string]) => token);
    else for (const [token, id] of Object.entries<number>(json.model.vocab)) tokens[id] = token;
    vocabularies.set(json, tokens!);
  }
  return tokens!;
}

function stage(config: Json, tokens: string[], byteRuns: "python" | "sentencepiece"): string[] {
  switch (config.type) {
    case "Sequence":
      return config.decoders.reduce((list: string[], d: Json) => stage(d, list, byteRuns), tokens);
    case "Replace":
      return tokens.map((t) => t.split(config.pattern.String).join(config.content));
    case "Fuse":
      return [tokens.join("")];
    case "Strip":
      return tokens.map((t) => {
        const chars = [...t];
        for (let i = 0; i < config.start && chars[0] === config.content; i++) chars.shift();
        for (let i = 0; i < config.stop && chars.at(-1) === config.content; i++) chars.pop();
        return chars.join("");
      });
    case "Metaspace":
      return tokens.map((t, i) =>
        t.split(config.replacement).join(i === 0 && config.prepend_scheme !== "never" ? "" : " ")
      );
    case "WordPiece":
      return tokens.map((t, i) => {
        const text = i === 0 ? t : t.startsWith(config.prefix) ? t.slice(config.prefix.length) : " " + t;
        return config.cleanup ? wordPieceCleanup(text) : text;
      });
    case "ByteLevel":
      return [lossy(tokens.flatMap(byteLevel))];
    case "ByteFallback":
      return byteFallback(tokens, byteRuns);
    default:
      throw new Error(`no reference for ${config.type}`);
  }
}

function wordPieceCleanup(text: string): string {
  const rules = [[" .", "."], [" ?", "?"], [" !", "!"], [" ,", ","], [" ' ", "'"], [" n't", "n't"], [
    " 'm",
    "'m",
  ]];
  rules.push([" do not", " don't"], [" 's", "'s"], [" 've", "'ve"], [" 're", "'re"]);
  return rules.reduce((t, [from, to]) => t.split(from!).join(to), text);
}

function byteFallback(tokens: string[], byteRuns: "python" | "sentencepiece"): string[] {
  const out: string[] = [];
  let run: number[] = [];
  const flush = () => {
    if (byteRuns === "sentencepiece") out.push(perByte(run));
    else {
      try {
        out.push(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(run)));
      } catch {
        out.push("\ufffd".repeat(run.length));
      }
    }
    run = [];
  };
  for (const token of tokens) {
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1];
    if (byte !== undefined) run.push(parseInt(byte, 16));
    else {
      flush();
      out.push(token);
    }
  }
  flush();
  return out;
}

/** Valid characters as they are, every other byte as U+FFFD: tries each length at each place. */
function perByte(bytes: number[]): string {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let out = "";
  for (let i = 0; i < bytes.length;) {
    let found = "";
    let length = 1;
    for (; length <= 4 && found === ""; length++) {
      try {
        found = i + length <= bytes.length ? decoder.decode(Uint8Array.from(bytes.slice(i, i + length))) : "";
      } catch {
        // not a character
      }
    }
    out += found || "\ufffd";
    i += found ? length - 1 : 1;
  }
  return out;
}

function lossy(bytes: number[]): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
}

function byteLevel(token: string): number[] {
  const bytes: number[] = [];
  for (const char of token) {
    const byte = ALPHABET.indexOf(char);
    if (byte < 0) return [...new TextEncoder().encode(token)];
    bytes.push(byte);
  }
  return bytes;
}

/** GPT-2's bytes_to_unicode(). */
const ALPHABET: string[] = (() => {
  const printable = [..."!~", ..."¡¬", ..."®ÿ"].map((c) => c.charCodeAt(0));
  const inside = (b: number) => [0, 2, 4].some((i) => b >= printable[i]! && b <= printable[i + 1]!);
  let n = 0;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(inside(b) ? b : 256 + n++));
})();
