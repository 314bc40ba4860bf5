/**
 * JSON schemas as values: references, and the schema for what two schemas both accept.
 *
 * @module
 */

/** A JSON schema. */
export type Schema = boolean | Readonly<Record<string, unknown>>;

/** A schema that is an object. */
export type SchemaObject = Readonly<Record<string, unknown>>;

/** What is wrong with a schema. */
export class SchemaError extends Error {
  /** `place`: where in the schema, as a JSON pointer such as `#/properties/a`. */
  constructor(message: string, readonly place: string) {
    super(`${place}: ${message}`);
  }
}

/** Alternatives that a merge may produce. */
const MAX_ALTERNATIVES = 256;
/** References that lead to references at most. */
const MAX_HOPS = 32;

/** Keywords that say something of values; what is not here is an annotation. */
const ASSERTIONS = new Set([
  ...["$ref", "$dynamicRef", "$recursiveRef", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"],
  ...["type", "enum", "const", "minLength", "maxLength", "pattern", "format"],
  ...["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
  ...["items", "prefixItems", "additionalItems", "unevaluatedItems", "minItems", "maxItems", "uniqueItems"],
  ...["contains", "minContains", "maxContains", "properties", "required", "additionalProperties"],
  ...["patternProperties", "propertyNames", "unevaluatedProperties", "minProperties", "maxProperties"],
  ...["dependentRequired", "dependentSchemas", "dependencies"],
]);

const LARGER = new Set(["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"]);
const SMALLER = new Set(["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"]);

/** The schema at this place, which has to be one. */
export function asSchema(value: unknown, place: string): Schema {
  if (typeof value === "boolean" || isObject(value)) return value;
  throw new SchemaError(`found ${describe(value)}, wanted a schema (an object, true or false)`, place);
}

/** The schemas of a list such as anyOf. */
export function schemaList(value: unknown, place: string): Schema[] {
  if (!Array.isArray(value)) {
    throw new SchemaError(`found ${describe(value)}, wanted an array of schemas`, place);
  }
  return value.map((one, i) => asSchema(one, `${place}/${i}`));
}

/** Whether it is an object and no array. */
export function isObject(value: unknown): value is SchemaObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value in a message. */
export function describe(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = JSON.stringify(value);
  return text.length <= 60 ? text : `${text.slice(0, 60)}…`;
}

/** The keywords of a schema that say something of values, beside `known`. */
export function assertions(schema: SchemaObject, known: readonly string[] = []): string[] {
  return Object.keys(schema).filter((key) => ASSERTIONS.has(key) && !known.includes(key));
}

/** A whole schema document, for references into it. */
export class SchemaDocument {
  readonly #root: Schema;

  constructor(root: Schema) {
    this.#root = root;
  }

  /** What a reference such as `#/$defs/a` stands for. */
  resolve(reference: unknown, place: string): Schema {
    if (typeof reference !== "string" || (reference !== "#" && !reference.startsWith("#/"))) {
      throw new SchemaError(
        `$ref is ${describe(reference)}, wanted "#" or "#/…": a place in the same schema`,
        place,
      );
    }
    let value: unknown = this.#root;
    for (const part of reference.split("/").slice(1)) {
      const key = unescapePart(part);
      const inside = isObject(value) || Array.isArray(value);
      value = inside && Object.hasOwn(value as object, key)
        ? (value as Record<string, unknown>)[key]
        : undefined;
      if (value === undefined) {
        throw new SchemaError(`$ref is ${describe(reference)}, which is not there`, place);
      }
    }
    return asSchema(value, reference);
  }

  /** The schema without $ref, allOf, oneOf and const at its top: merged, and as anyOf and enum. */
  flat(schema: Schema, place: string, hops = 0): Schema {
    if (typeof schema === "boolean") return schema;
    if (hops > MAX_HOPS) throw new SchemaError("references and allOf lead to each other without end", place);
    if (schema["$ref"] !== undefined) {
      const { $ref, ...rest } = schema;
      const target = this.flat(this.resolve($ref, place), String($ref), hops + 1);
      return assertions(rest).length === 0 ? target : this.merge(target, rest, place, hops + 1);
    }
    if (schema["allOf"] !== undefined) {
      const { allOf, ...rest } = schema;
      return schemaList(allOf, `${place}/allOf`).reduce<Schema>(
        (all, one, i) => this.merge(all, one, `${place}/allOf/${i}`, hops + 1),
        rest,
      );
    }
    if (schema["const"] !== undefined) {
      const { const: value, ...rest } = schema;
      return this.merge(rest, { enum: [value] }, place, hops + 1);
    }
    if (schema["oneOf"] !== undefined) {
      const { oneOf, ...rest } = schema;
      const options = schemaList(oneOf, `${place}/oneOf`);
      return rest["anyOf"] === undefined
        ? { ...rest, anyOf: options }
        : this.merge(rest, { anyOf: options }, place, hops + 1);
    }
    return schema;
  }

  /** The schema for what both accept. */
  merge(first: Schema, second: Schema, place: string, hops = 0): Schema {
    const a = this.flat(first, place, hops), b = this.flat(second, place, hops);
    if (a === false || b === false) return false;
    if (a === true) return b;
    if (b === true) return a;
    const out: Record<string, unknown> = { ...b, ...a };
    for (const key of assertions(a)) {
      if (b[key] !== undefined) out[key] = this.#both(key, a[key], b[key], place, hops);
    }
    if (isObject(a["properties"]) || isObject(b["properties"])) {
      out["properties"] = this.#properties(a, b, place, hops);
    }
    return out;
  }

  #both(key: string, a: unknown, b: unknown, place: string, hops: number): unknown {
    if (JSON.stringify(a) === JSON.stringify(b)) return a;
    if (LARGER.has(key)) return Math.max(Number(a), Number(b));
    if (SMALLER.has(key)) return Math.min(Number(a), Number(b));
    switch (key) {
      case "type": {
        const [left, right] = [[a].flat(), [b].flat()] as string[][];
        const accepts = (types: string[], type: string) =>
          types.includes(type) || (type === "integer" && types.includes("number"));
        const both = [...left!.filter((t) => accepts(right!, t)), ...right!.filter((t) => accepts(left!, t))];
        return [...new Set(both)];
      }
      case "enum": {
        const texts = new Set((b as unknown[]).map((value) => JSON.stringify(value)));
        return (a as unknown[]).filter((value) => texts.has(JSON.stringify(value)));
      }
      case "required":
        return [...new Set([...a as string[], ...b as string[]])];
      case "properties":
        return a; // both sides are looked at together
      case "items":
      case "additionalProperties":
      case "propertyNames":
        return this.merge(asSchema(a, place), asSchema(b, place), `${place}/${key}`, hops + 1);
      case "anyOf": {
        const left = schemaList(a, place), right = schemaList(b, place);
        if (left.length * right.length > MAX_ALTERNATIVES) {
          throw new SchemaError(`more than ${MAX_ALTERNATIVES} combinations of alternatives`, place);
        }
        return left.flatMap((x) => right.map((y) => this.merge(x, y, place, hops + 1)));
      }
      default:
        throw new SchemaError(`two different values of "${key}" cannot be joined`, place);
    }
  }

  /** Properties of one side are held against what the other side says of further ones. */
  #properties(a: SchemaObject, b: SchemaObject, place: string, hops: number): Record<string, Schema> {
    const own = (side: SchemaObject, name: string): Schema | undefined => {
      const properties = side["properties"];
      if (isObject(properties) && Object.hasOwn(properties, name)) return asSchema(properties[name], place);
      const further = side["additionalProperties"];
      return further === undefined ? undefined : asSchema(further, place);
    };
    const names = [a, b].flatMap(({ properties }) => isObject(properties) ? Object.keys(properties) : []);
    const out: [string, Schema][] = [];
    for (const name of new Set(names)) {
      const left = own(a, name) ?? true, right = own(b, name) ?? true;
      out.push([name, this.merge(left, right, `${place}/properties/${name}`, hops + 1)]);
    }
    return Object.fromEntries(out);
  }
}

function unescapePart(part: string): string {
  const text = part.replaceAll("~1", "/").replaceAll("~0", "~");
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
