/**
 * Checking a body against a schema, with errors that name the field, the value found and the value wanted.
 * Every schema of this folder gives what it wants as the message of its issue.
 *
 * @module
 */

import type { z } from "zod";
import { InvalidRequestError } from "../../runtime/errors.ts";

type Issue = z.core.$ZodIssue;

/** The body as the schema types it, or an InvalidRequestError about the first field that does not fit. */
export function validate<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  throw toInvalidRequest(result.error.issues[0]!, body);
}

function toInvalidRequest(reported: Issue, body: unknown): InvalidRequestError {
  const issue = mostSpecific(reported);
  const name = fieldName(issue.path);
  const found = valueAt(body, issue.path);
  const missing = found === undefined;
  return new InvalidRequestError(
    `${name ?? "The request body"} is ${missing ? "missing" : describe(found)}; it must be ${issue.message}.`,
    name,
    missing ? "missing_required_parameter" : issueCode(issue),
  );
}

/** Within a union, the one alternative that got further than its first look; else the union itself. */
function mostSpecific(issue: Issue): Issue {
  if (issue.code !== "invalid_union") return issue;
  const deeper = issue.errors.map((branch) => branch[0]!).filter((inner) => inner.path.length > 0);
  if (deeper.length !== 1) return issue;
  const inner = mostSpecific(deeper[0]!);
  return { ...inner, path: [...issue.path, ...inner.path] };
}

function issueCode(issue: Issue): string {
  if (issue.code === "custom" && typeof issue.params?.code === "string") return issue.params.code;
  return issue.code === "invalid_type" ? "invalid_type" : "invalid_value";
}

/** `["messages", 2, "role"]` as `messages[2].role`; null for the body itself. */
export function fieldName(path: readonly PropertyKey[]): string | null {
  if (path.length === 0) return null;
  return path.map((part, i) => typeof part === "number" ? `[${part}]` : (i > 0 ? "." : "") + String(part))
    .join("");
}

function valueAt(body: unknown, path: readonly PropertyKey[]): unknown {
  let value = body;
  for (const part of path) value = (value as Record<PropertyKey, unknown> | null | undefined)?.[part];
  return value;
}

const LONGEST = 60;

/** A value in a sentence: scalars as JSON, cut after 60 characters; arrays and objects by their kind. */
export function describe(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? "an empty array" : `an array of ${value.length}`;
  if (typeof value === "object" && value !== null) return "an object";
  if (typeof value !== "string") return String(value);
  return JSON.stringify(value.length <= LONGEST ? value : value.slice(0, LONGEST) + "…");
}
