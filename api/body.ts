/**
 * Reading a request's JSON body, within a size limit.
 *
 * @module
 */

import { ApiError } from "./errors.ts";
import { parseJson } from "./json.ts";

/** Largest body that is read unless the service says otherwise: 16 MiB. */
export const DEFAULT_MAX_BODY_BYTES = 16 << 20;

const decoder = new TextDecoder("utf-8", { fatal: true });

/** The JSON value of a request's body; else an error with status 400, 413 or 415. */
export async function readJson(request: Request, maxBytes: number): Promise<unknown> {
  // Asking for the type also keeps other sites' pages out: a browser sends this one only after a preflight.
  const type = request.headers.get("content-type");
  if (type === null || !/^application\/(?:[\w.-]+\+)?json\s*(?:;|$)/i.test(type)) {
    const found = type === null ? "missing" : JSON.stringify(type);
    throw new ApiError(415, `The content-type header is ${found}; it must be "application/json".`, {
      code: "unsupported_content_type",
    });
  }
  const bytes = await readBytes(request, maxBytes);
  if (bytes.length === 0) {
    throw new ApiError(400, "The request body is empty; it must be a JSON object.", { code: "invalid_json" });
  }
  return parseJson(decodeText(bytes));
}

function decodeText(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new ApiError(400, "The request body is not UTF-8.", { code: "invalid_json", cause });
  }
}

async function readBytes(request: Request, maxBytes: number): Promise<Uint8Array> {
  const declared = request.headers.get("content-length");
  if (declared !== null && Number(declared) > maxBytes) throw tooLarge(`${declared} bytes`, maxBytes);
  try {
    if (declared !== null) return await request.bytes();
    const parts: Uint8Array[] = [];
    let size = 0;
    for await (const part of request.body ?? []) {
      size += part.length;
      if (size > maxBytes) throw tooLarge(`more than ${maxBytes} bytes`, maxBytes);
      parts.push(part);
    }
    return concat(parts, size);
  } catch (cause) {
    if (cause instanceof ApiError) throw cause;
    throw new ApiError(400, "The request body ended early.", { code: "incomplete_body", cause });
  }
}

function tooLarge(found: string, maxBytes: number): ApiError {
  return new ApiError(413, `The request body has ${found}; the limit is ${maxBytes} bytes.`, {
    code: "body_too_large",
  });
}

function concat(parts: readonly Uint8Array[], size: number): Uint8Array {
  const all = new Uint8Array(size);
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  return all;
}
