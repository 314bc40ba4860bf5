/**
 * The API's description in OpenAPI 3.1, made from the schemas that check the requests.
 *
 * @module
 */

import { z } from "zod";
import config from "../../deno.json" with { type: "json" };
import { errorAnswer } from "./answers.ts";
import { type Endpoint, ENDPOINTS } from "./endpoints.ts";

type Json = Record<string, unknown>;

const REASONS: Readonly<Record<number, string>> = {
  400: "A field is wrong, missing or not supported; the message names it, what was found and what is wanted",
  401: "The server wants an API key",
  404: "There is no such thing, or the model is not the served one",
  413: "The body is too large",
  415: "The body is not application/json",
  429: "The queue is full; try again after Retry-After seconds",
  500: "The server failed",
  503: "The server is loading, draining or broken",
  504: "The request took longer than the server allows",
};

/** The document. */
export function openapiDocument(): Json {
  const paths: Record<string, Json> = {};
  for (const endpoint of ENDPOINTS) {
    paths[endpoint.path] = { ...paths[endpoint.path], [endpoint.method]: operation(endpoint) };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "kvrm",
      version: config.version,
      description: "Fields that a schema does not have are ignored. Errors name the field at fault.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    paths,
    components: {
      schemas: { Error: jsonSchema(errorAnswer) },
      securitySchemes: { key: { type: "http", scheme: "bearer" } },
    },
    security: [{}, { key: [] }],
  };
}

function operation(endpoint: Endpoint): Json {
  const { method, path, tag, summary, body, example, open } = endpoint;
  const name = path.replace(/^\/(v1\/)?/, "").replace(/[{}]/g, "").replace(/\//g, "_");
  return {
    operationId: `${method}_${name}`,
    tags: [tag],
    summary,
    ...(path.includes("{id}") && {
      parameters: [{ name: "id", in: "path", required: true, schema: { type: "string", minLength: 1 } }],
    }),
    ...(body && {
      requestBody: { required: true, content: { "application/json": { schema: jsonSchema(body), example } } },
    }),
    ...(open && { security: [{}] }),
    responses: responses(endpoint),
  };
}

function responses({ answer, answerType, event, done = false, errors, error, open }: Endpoint): Json {
  const content: Json = answer === null
    ? { [answerType!]: { schema: { type: "string" } } }
    : { "application/json": { schema: jsonSchema(answer) } };
  if (event !== undefined) content["text/event-stream"] = { schema: eventSchema(event, done) };
  const all: Json = { 200: { description: "The answer", content } };
  for (const status of [...errors, ...(open ? [] : [401, 500])].toSorted((a, b) => a - b)) {
    const schema = error === undefined ? { $ref: "#/components/schemas/Error" } : jsonSchema(error);
    all[status] = { description: REASONS[status], content: { "application/json": { schema } } };
  }
  return all;
}

/** One event of a stream: 3.1 has no schema of a whole one. */
function eventSchema(event: z.ZodType, done: boolean): Json {
  const json = {
    type: "string",
    contentMediaType: "application/json",
    contentSchema: { anyOf: [jsonSchema(event), { $ref: "#/components/schemas/Error" }] },
  };
  const data = done ? { anyOf: [json, { const: "[DONE]" }] } : json;
  return { type: "object", properties: { event: { type: "string" }, data }, required: ["data"] };
}

/** A schema as JSON Schema. Descriptions are what the errors would say that is wanted. */
export function jsonSchema(schema: z.ZodType): Json {
  const { $schema: _, ...json } = z.toJSONSchema(schema, {
    // The output side: there a list is an array of its elements, not of anything at all.
    io: "output",
    unrepresentable: "any",
    override({ zodSchema, jsonSchema }) {
      const { def } = zodSchema._zod;
      // Unknown fields are ignored, not refused.
      if (def.type === "object") delete jsonSchema.additionalProperties;
      const wanted = wantedBy(def.error);
      if (wanted !== undefined) jsonSchema.description ??= wanted;
    },
  });
  return json;
}

function wantedBy(error: unknown): string | undefined {
  if (typeof error !== "function") return undefined;
  const wanted: unknown = error({ code: "custom", input: undefined, path: [] });
  return typeof wanted === "string" ? wanted : undefined;
}
