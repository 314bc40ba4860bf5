/**
 * JSON schemas as grammars. What a grammar accepts is valid under its schema; what a grammar cannot say is refused,
 * with its place, and never passed over. Some valid texts are not accepted, since nobody misses them: numbers of
 * more digits than a double has, properties beside the named ones unless the schema speaks of them, properties in
 * another order, and other space than one after each comma and colon.
 *
 * @module
 */
import type { GrammarBuilder } from "./builder.ts";
import {
  asciiOf,
  type CharSet,
  complement,
  intersect,
  JSON_PLAIN,
  literal,
  oneOf,
  range,
  union,
} from "./charset.ts";
import { formatPattern } from "./formats.ts";
import { bound, scaled } from "./bounds.ts";
import { decimalRange, integerRange } from "./number_range.ts";
import { RegexError, regexGrammar } from "./regex.ts";
import {
  asSchema,
  assertions,
  describe,
  isObject,
  type Schema,
  SchemaDocument,
  SchemaError,
  schemaList,
  type SchemaObject,
} from "./schema_merge.ts";

/** Schemas within schemas at most. */
const MAX_DEPTH = 48;
/** Schemas in all, each reference followed once. */
const MAX_SCHEMAS = 10_000;
/** Highest bound of a length. */
const MAX_COUNT = 100_000;

const TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"] as const;
type Type = typeof TYPES[number];

/** Keywords that no grammar of ours can say. */
const REFUSED = [
  ...["not", "if", "then", "else", "$dynamicRef", "$recursiveRef"],
  ...["dependentRequired", "dependentSchemas", "dependencies", "contains"],
];

/** What each type is described by. */
const KEYWORDS: Readonly<Record<string, readonly string[]>> = {
  string: ["minLength", "maxLength", "pattern", "format"],
  number: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
  array: [
    "items",
    "prefixItems",
    "additionalItems",
    "unevaluatedItems",
    "minItems",
    "maxItems",
    "uniqueItems",
  ],
  object: [
    ...["properties", "required", "additionalProperties", "patternProperties", "propertyNames"],
    ...["unevaluatedProperties", "minProperties", "maxProperties"],
  ],
};

/**
 * An expression of the grammar for texts that are valid under `schema`.
 *
 * @throws {SchemaError} with the place of what cannot be had
 */
export function schemaGrammar(builder: GrammarBuilder, schema: unknown): string {
  const root = asSchema(schema, "#");
  const expression = new SchemaCompiler(builder, root).compile();
  if (expression === null) throw new SchemaError("no value is valid", "#");
  return expression;
}

/** Null stands for a schema that accepts nothing. */
type Expression = string | null;

class SchemaCompiler {
  readonly #builder: GrammarBuilder;
  readonly #document: SchemaDocument;
  readonly #root: Schema;
  /** Rules of references: undefined until asked for. */
  readonly #references = new Map<string, Expression>();
  /** References that are being followed and have not yet come to an object or array: they must not recur. */
  #open = new Set<string>();
  #depth = 0;
  #count = 0;

  constructor(builder: GrammarBuilder, root: Schema) {
    this.#builder = builder;
    this.#root = root;
    this.#document = new SchemaDocument(root);
  }

  compile(): Expression {
    return this.#reference("#", "#");
  }

  #visit(schema: Schema, place: string): Expression {
    if (schema === true) return this.#builder.value;
    if (schema === false) return null;
    if (++this.#count > MAX_SCHEMAS) throw new SchemaError(`more than ${MAX_SCHEMAS} schemas`, place);
    if (this.#depth >= MAX_DEPTH) {
      throw new SchemaError(`more than ${MAX_DEPTH} schemas within each other`, place);
    }
    this.#depth++;
    const expression = this.#visitObject(schema, place);
    this.#depth--;
    return expression;
  }

  #visitObject(schema: SchemaObject, place: string): Expression {
    const reference = schema["$ref"];
    if (typeof reference === "string" && assertions(schema, ["$ref"]).length === 0) {
      return this.#reference(reference, place);
    }
    const flat = this.#document.flat(schema, place);
    if (typeof flat === "boolean") return this.#visit(flat, place);
    for (const keyword of REFUSED) {
      if (flat[keyword] !== undefined) throw new SchemaError(`"${keyword}" is not supported`, place);
    }
    if (flat["anyOf"] !== undefined) return this.#anyOf(flat, place);
    const types = typesOf(flat, place);
    if (flat["enum"] !== undefined) return this.#enum(flat, types, place);
    return this.#or(types.map((type) => this.#ofType(type, flat, place)));
  }

  #or(options: readonly Expression[]): Expression {
    const some = options.filter((option) => option !== null);
    return some.length === 0 ? null : this.#builder.or(some);
  }

  #reference(reference: string, place: string): Expression {
    if (this.#open.has(reference)) {
      throw new SchemaError(`"$ref" to ${describe(reference)} leads back to itself`, place);
    }
    const known = this.#references.get(reference);
    if (known !== undefined) return known;
    const target = reference === "#" ? this.#root : this.#document.resolve(reference, place);
    const name = this.#builder.reserve();
    this.#references.set(reference, name);
    this.#open.add(reference);
    const body = this.#visit(target, reference);
    this.#open.delete(reference);
    if (body === null) this.#references.set(reference, null);
    else this.#builder.define(name, body);
    return body === null ? null : name;
  }

  #anyOf({ anyOf, ...rest }: SchemaObject, place: string): Expression {
    const shared = assertions(rest).length > 0;
    return this.#or(
      schemaList(anyOf, `${place}/anyOf`).map((option, i) => {
        const at = `${place}/anyOf/${i}`;
        return this.#visit(shared ? this.#document.merge(option, rest, at) : option, at);
      }),
    );
  }

  #enum(schema: SchemaObject, types: readonly Type[], place: string): Expression {
    const values = schema["enum"];
    if (!Array.isArray(values)) throw new SchemaError(`enum is ${describe(values)}, wanted an array`, place);
    const fits = (value: unknown) => types.some((type) => isOfType(value, type));
    const typed = schema["type"] === undefined ? values : values.filter(fits);
    for (const [type, keywords] of Object.entries(KEYWORDS)) {
      const beside = keywords.find((keyword) => schema[keyword] !== undefined);
      if (beside !== undefined && typed.some((value) => isOfType(value, type))) {
        throw new SchemaError(`"${beside}" beside "enum" is not supported`, place);
      }
    }
    return this.#or(typed.map((value) => this.#builder.constant(value)));
  }

  #ofType(type: Type, schema: SchemaObject, place: string): Expression {
    switch (type) {
      case "null":
        return '"null"';
      case "boolean":
        return this.#builder.boolean;
      case "string":
        return this.#string(schema, place);
      case "number":
      case "integer":
        return this.#number(type, schema, place);
      case "array":
      case "object": {
        const open = this.#open;
        this.#open = new Set();
        const body = type === "array" ? this.#array(schema, place) : this.#object(schema, place);
        this.#open = open;
        return body;
      }
    }
  }

  #string(schema: SchemaObject, place: string): Expression {
    const bare = KEYWORDS["string"]!.every((keyword) =>
      keyword === "format" || schema[keyword] === undefined
    );
    if (bare && this.#patternOf(schema) === null) return this.#builder.string;
    const content = this.#stringContent(schema, place);
    return content === null ? null : this.#builder.rule(`"\\"" ${content} "\\""`);
  }

  /** What stands between the quotes. */
  #stringContent(schema: SchemaObject, place: string): Expression {
    const format = this.#patternOf(schema);
    const { minLength, maxLength } = schema;
    const bounded = minLength !== undefined || maxLength !== undefined;
    const pattern = schema["pattern"] ?? format;
    if (pattern === null || pattern === undefined) {
      // Without escapes, which a bounded string hardly misses: masks are much cheaper so.
      return repetition(
        this.#builder.char,
        count(schema, "minLength", place),
        count(schema, "maxLength", place),
      );
    }
    if (typeof pattern !== "string") {
      throw new SchemaError(`pattern is ${describe(pattern)}, wanted a text`, place);
    }
    const beside = bounded
      ? "minLength or maxLength"
      : schema["pattern"] !== undefined && format
      ? "format"
      : null;
    if (beside !== null) {
      const name = schema["pattern"] === undefined ? `format ${describe(schema["format"])}` : '"pattern"';
      throw new SchemaError(`${name} with ${beside} is not supported`, place);
    }
    try {
      return this.#builder.rule(regexGrammar(this.#builder, pattern, { json: true }));
    } catch (error) {
      if (error instanceof RegexError) throw new SchemaError(`pattern has ${error.message}`, place);
      throw error;
    }
  }

  /** The pattern of its format, where that has one. */
  #patternOf({ format }: SchemaObject): string | null {
    return typeof format === "string" ? formatPattern(format) : null;
  }

  #number(type: "number" | "integer", schema: SchemaObject, place: string): Expression {
    const { multipleOf } = schema;
    if (multipleOf !== undefined && !(multipleOf === 1 && type === "integer")) {
      throw new SchemaError(`"multipleOf" of ${describe(multipleOf)} is not supported`, place);
    }
    const low = bound(schema, "minimum", "exclusiveMinimum", Math.max, place);
    const high = bound(schema, "maximum", "exclusiveMaximum", Math.min, place);
    if (low === null && high === null) {
      return type === "integer" ? this.#builder.integer : this.#builder.number;
    }
    const integers = integerRange(scaled(low, high, 0));
    if (type === "integer") return this.#or(integers);
    // Two decimals more than the bounds have, so that there is something between two bounds that exclude.
    const decimals = Math.max(low?.decimals ?? 0, high?.decimals ?? 0) + 2;
    return this.#or([...integers, ...decimalRange(scaled(low, high, decimals), decimals)]);
  }

  #array(schema: SchemaObject, place: string): Expression {
    const { items, prefixItems, additionalItems, unevaluatedItems, uniqueItems } = schema;
    const tuple = Array.isArray(items) ? items : prefixItems;
    const prefix = tuple === undefined
      ? []
      : schemaList(tuple, `${place}/${Array.isArray(items) ? "" : "prefix"}items`);
    const rest = (Array.isArray(items) ? additionalItems : items) ?? unevaluatedItems ?? prefix.length === 0;
    const least = count(schema, "minItems", place) ?? 0;
    const most = count(schema, "maxItems", place);
    if (uniqueItems === true && (most === null || most > 1)) {
      throw new SchemaError('"uniqueItems" is not supported', place);
    }
    if (most !== null && most < least) return null;
    const heads = prefix.map((item, i) => this.#visit(item, `${place}/prefixItems/${i}`));
    const item = this.#visit(asSchema(rest, `${place}/items`), `${place}/items`);
    return this.#items(heads, item, least, most);
  }

  /** From the end on: a tail with the comma before it, for every number of items that may stand there. */
  #items(heads: readonly Expression[], item: Expression, least: number, most: number | null): Expression {
    const limit = heads.findIndex((head) => head === null);
    const usable = heads.slice(0, Math.min(limit < 0 ? heads.length : limit, most ?? Infinity)) as string[];
    const n = usable.length;
    const further = limit < 0 ? item : null;
    const moreAtLeast = Math.max(0, least - n);
    if (further === null && moreAtLeast > 0) return null;
    const room = most === null ? null : most - n;
    const repeated = further === null || room === 0
      ? '""'
      : repetition(`(", " ${further})`, moreAtLeast, room);
    if (n === 0) {
      if (further === null || room === 0) return this.#builder.rule('"[" "]"');
      const first = repetition(`(", " ${further})`, Math.max(0, least - 1), room === null ? null : room - 1);
      const some = `${further} ${first}`;
      return this.#builder.rule(`"[" ${least > 0 ? some : `(${some})?`} "]"`);
    }
    let tail = repeated;
    for (let i = n - 1; i >= 0; i--) {
      const head = `${i > 0 ? '", " ' : ""}${usable[i]} ${this.#builder.rule(tail)}`;
      tail = i < least ? head : `(${head})?`;
    }
    return this.#builder.rule(`"[" ${tail} "]"`);
  }

  #object(schema: SchemaObject, place: string): Expression {
    const { properties = {}, required = [], patternProperties = {} } = schema;
    if (!isObject(properties)) {
      throw new SchemaError(`properties is ${describe(properties)}, wanted an object`, place);
    }
    if (!Array.isArray(required) || !required.every((name) => typeof name === "string")) {
      throw new SchemaError(`required is ${describe(required)}, wanted an array of names`, place);
    }
    if (Object.keys(patternProperties as object).length > 0) {
      throw new SchemaError('"patternProperties" is not supported', place);
    }
    const names = [...new Set([...Object.keys(properties), ...required])];
    const further = schema["additionalProperties"] ?? schema["unevaluatedProperties"];
    const rest = asSchema(further ?? names.length === 0, `${place}/additionalProperties`);
    if (names.length === 0) return this.#dictionary(schema, rest, place);
    const beside = ["propertyNames", "maxProperties"].find((keyword) => schema[keyword] !== undefined) ??
      ((count(schema, "minProperties", place) ?? 0) > required.length ? "minProperties" : undefined);
    if (beside !== undefined) {
      throw new SchemaError(`"${beside}" beside "properties" is not supported`, place);
    }

    const value = this.#visit(rest, `${place}/additionalProperties`);
    const pairs: { pair: string; optional: boolean }[] = [];
    for (const name of names) {
      const described = Object.hasOwn(properties, name);
      const own = described ? asSchema(properties[name], `${place}/properties/${name}`) : further ?? true;
      const inside = this.#visit(asSchema(own, place), `${place}/properties/${name}`);
      const optional = !required.includes(name);
      if (inside === null && !optional) return null;
      if (inside !== null) {
        pairs.push({ pair: `${literal(`${JSON.stringify(name)}: `)} ${inside}`, optional });
      }
    }
    const extra = value === null ? null : this.#builder.rule(`${this.#keyBeside(names)} ": " ${value}`);
    return this.#builder.rule(`"{" ${this.#pairs(pairs, extra)} "}"`);
  }

  /** From the end on, two rules for each property: one with a pair before it, one without. */
  #pairs(pairs: readonly { pair: string; optional: boolean }[], extra: Expression): string {
    let first = extra === null ? '""' : `(${extra} (", " ${extra})*)?`;
    let later = extra === null ? '""' : `(", " ${extra})*`;
    for (const { pair, optional } of pairs.toReversed()) {
      const [afterFirst, afterLater] = [this.#builder.rule(first), this.#builder.rule(later)];
      first = this.#builder.or([`${pair} ${afterLater}`, ...(optional ? [afterFirst] : [])]);
      later = this.#builder.or([`", " ${pair} ${afterLater}`, ...(optional ? [afterLater] : [])]);
    }
    return this.#builder.rule(first);
  }

  /** An object whose keys are not named. */
  #dictionary(schema: SchemaObject, rest: Schema, place: string): Expression {
    const least = count(schema, "minProperties", place) ?? 0;
    const most = count(schema, "maxProperties", place);
    if (least > 1) throw new SchemaError('"minProperties" of more than 1 is not supported', place);
    if (most !== null && most < least) return null;
    const names = schema["propertyNames"];
    const key = names === undefined ? this.#builder.string : this.#visit(
      this.#document.merge(asSchema(names, place), { type: "string" }, place),
      `${place}/propertyNames`,
    );
    const value = this.#visit(rest, `${place}/additionalProperties`);
    if (value === null || key === null || most === 0) return least > 0 ? null : '"{" "}"';
    const pair = this.#builder.rule(`${key} ": " ${value}`);
    const pairs = `${pair} ${repetition(`(", " ${pair})`, 0, most === null ? null : most - 1)}`;
    return this.#builder.rule(`"{" ${least > 0 ? pairs : `(${pairs})?`} "}"`);
  }

  /** A key that is none of `names`. It has no escape before it differs from them, since that could spell one. */
  #keyBeside(names: readonly string[]): string {
    const root: Trie = new Map();
    for (const name of names) {
      let node = root;
      for (const char of name) {
        const code = char.codePointAt(0)!;
        if (!node.has(code)) node.set(code, new Map());
        node = node.get(code)!;
      }
      node.set(END, new Map());
    }
    return this.#builder.rule(`"\\"" ${this.#unlike(root)}`);
  }

  #unlike(node: Trie): string {
    const options: string[] = node.has(END) ? [] : ['"\\""'];
    let taken: CharSet = [];
    for (const [code, child] of node) {
      if (code === END) continue;
      taken = union(taken, range(code));
      if (intersect(JSON_PLAIN, range(code)).length > 0) {
        options.push(`${literal(String.fromCodePoint(code))} ${this.#unlike(child)}`);
      }
    }
    const other = intersect(JSON_PLAIN, complement(taken));
    const others = this.#builder.or(oneOf(other) ?? oneOf(asciiOf(other))!);
    return this.#builder.or([...options, `${others} ${this.#builder.stringEnd}`]);
  }
}

type Trie = Map<number, Trie>;
const END = -1;

/** Its types as it says, else those that its keywords speak of, else all. */
function typesOf(schema: SchemaObject, place: string): readonly Type[] {
  const given = schema["type"];
  if (given === undefined) {
    const spoken = (["object", "array", "string", "number"] as const).filter((type) =>
      KEYWORDS[type]!.some((keyword) => keyword !== "format" && schema[keyword] !== undefined)
    );
    return spoken.length > 0 ? spoken : TYPES.filter((type) => type !== "integer");
  }
  const types = [given].flat();
  for (const type of types) {
    if (!TYPES.includes(type as Type)) {
      throw new SchemaError(`type is ${describe(type)}, wanted one of ${TYPES.join(", ")}`, place);
    }
  }
  return types.includes("number") ? (types as Type[]).filter((type) => type !== "integer") : types as Type[];
}

function isOfType(value: unknown, type: string): boolean {
  switch (type) {
    case "null":
      return value === null;
    case "array":
      return Array.isArray(value);
    case "object":
      return isObject(value);
    case "integer":
      return Number.isInteger(value);
    case "number":
      return typeof value === "number";
    case "boolean":
      return typeof value === "boolean";
    default:
      return typeof value === "string";
  }
}

/** `inner` so many times; null is without end. */
function repetition(inner: string, least: number | null, most: number | null): string {
  const from = least ?? 0;
  if (most === 0) return '""';
  if (most === null) return from === 0 ? `${inner}*` : `${inner}{${from},}`;
  return `${inner}{${from},${most}}`;
}

function count(schema: SchemaObject, keyword: string, place: string): number | null {
  const value = schema[keyword];
  if (value === undefined) return null;
  if (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_COUNT) {
    return value as number;
  }
  throw new SchemaError(`${keyword} is ${describe(value)}, wanted an integer from 0 to ${MAX_COUNT}`, place);
}
