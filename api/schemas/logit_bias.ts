/**
 * The field `logit_bias`, in OpenAI's form and in llama.cpp's.
 *
 * @module
 */

import { z } from "zod";

/** Tokens of `logit_bias` at most: what the engine keeps for one sequence. */
const MOST_BIASES = 1024;

/** Pairs of a token id, or of a text, and a number; false: never that token. */
export type BiasPairs = readonly (readonly [what: number | string, bias: number | false])[];

/** Numbers by token id, or pairs. */
export type LogitBias = Record<string, number | false> | BiasPairs;

/**
 * `logit_bias`. Checked by hand up to its first fault, since a record would make an issue of each. Which ids there are
 * is the engine's to say.
 */
export function logitBias(): z.ZodType<LogitBias | null | undefined> {
  const bias = { anyOf: [{ type: "number", minimum: -100, maximum: 100 }, { const: false }] };
  const id = { anyOf: [{ type: "integer", minimum: 0 }, { type: "string", minLength: 1 }] };
  return z.any().superRefine((value, context) => {
    const fault = biasFault(value);
    if (fault !== null) context.addIssue({ code: "custom", path: fault.path, message: fault.wanted });
  }).meta({
    anyOf: [
      { type: "object", additionalProperties: bias, maxProperties: MOST_BIASES },
      {
        type: "array",
        items: { type: "array", prefixItems: [id, bias], minItems: 2, maxItems: 2 },
        maxItems: MOST_BIASES,
      },
      { type: "null" },
    ],
  }).optional();
}

/** Pairs as the engine takes them: -Infinity for never. */
export function biasesOf(bias: LogitBias): [token: number | string, bias: number][] {
  const pairs = isPairs(bias)
    ? bias
    : Object.entries(bias).map(([id, value]) => [Number(id), value] as const);
  return pairs.map(([token, value]) => [token, value === false ? -Infinity : value]);
}

function isPairs(bias: LogitBias): bias is BiasPairs {
  return Array.isArray(bias);
}

interface Fault {
  path: (string | number)[];
  wanted: string;
}

const valueWanted = "a number from -100 to 100, or false";

function isBias(value: unknown): boolean {
  return value === false || (typeof value === "number" && value >= -100 && value <= 100);
}

function biasFault(bias: unknown): Fault | null {
  if (bias === null || bias === undefined) return null;
  const entries = typeof bias === "object" ? Object.entries(bias) : null;
  if (entries === null || entries.length > MOST_BIASES) {
    return {
      path: [],
      wanted:
        `an object of at most ${MOST_BIASES} token ids with numbers from -100 to 100, or an array of such pairs`,
    };
  }
  if (Array.isArray(bias)) return pairsFault(bias);
  for (const [id, value] of entries) {
    // One way of writing each id, so that none comes twice.
    if (!/^(0|[1-9]\d{0,8})$/.test(id)) {
      return { path: [id], wanted: "absent, because its name is no token id" };
    }
    if (!isBias(value)) return { path: [id], wanted: valueWanted };
  }
  return null;
}

function pairsFault(pairs: readonly unknown[]): Fault | null {
  for (const [i, pair] of pairs.entries()) {
    if (!Array.isArray(pair) || pair.length !== 2) {
      return { path: [i], wanted: "a token id or a text, and its bias" };
    }
    const what: unknown = pair[0];
    const isToken = typeof what === "string"
      ? what !== ""
      : Number.isSafeInteger(what) && (what as number) >= 0;
    if (!isToken) return { path: [i, 0], wanted: "a token id (an integer, 0 or more) or a text" };
    if (!isBias(pair[1])) return { path: [i, 1], wanted: valueWanted };
  }
  return null;
}
