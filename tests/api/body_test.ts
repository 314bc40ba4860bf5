import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { readJson } from "../../api/body.ts";
import { ApiError } from "../../api/errors.ts";
import { InvalidRequestError } from "../../runtime/errors.ts";

const URL = "http://localhost/";

function post(body: BodyInit, type: string | null = "application/json", length?: number): Request {
  const headers = new Headers();
  if (type !== null) headers.set("content-type", type);
  if (length !== undefined) headers.set("content-length", String(length));
  const request = new Request(URL, { method: "POST", body: new Blob([body as BlobPart]), headers });
  if (type === null) request.headers.delete("content-type");
  return request;
}

for (const type of ["application/json", "application/json; charset=utf-8", "application/problem+json"]) {
  Deno.test(`readJson() takes ${type}`, async () => {
    assertEquals(await readJson(post('{"a":"é"}', type), 100), { a: "é" });
  });
}

for (const type of [null, "text/plain", "application/jsonp", "application/x-www-form-urlencoded"]) {
  Deno.test(`readJson() answers 415 to the content type ${type}`, async () => {
    const error = await assertRejects(() => readJson(post("{}", type), 100), ApiError);
    assertEquals(error.status, 415);
    assertMatch(error.message, type === null ? /is missing/ : new RegExp(type.replace("/", "\\/")));
  });
}

Deno.test("readJson() answers 413 to a declared length above the limit", async () => {
  const error = await assertRejects(() => readJson(post("{}", "application/json", 101), 100), ApiError);
  assertEquals(error.status, 413);
  assertEquals(error.message, "The request body has 101 bytes; the limit is 100 bytes.");
});

Deno.test("readJson() answers 413 to a stream that grows above the limit", async () => {
  let sent = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      sent += 10;
      controller.enqueue(new Uint8Array(10).fill(0x20));
    },
  });
  const request = new Request(URL, {
    method: "POST",
    body,
    headers: { "content-type": "application/json" },
  });
  assertEquals((await assertRejects(() => readJson(request, 100), ApiError)).status, 413);
  assertEquals(sent <= 200, true);
});

Deno.test("readJson() takes a body of exactly the limit, streamed or not", async () => {
  const bytes = new TextEncoder().encode('{"a":[1,2,3]}');
  const streamed = new Request(URL, {
    method: "POST",
    body: ReadableStream.from([bytes.slice(0, 5), bytes.slice(5)]),
    headers: { "content-type": "application/json" },
  });
  assertEquals(await readJson(streamed, bytes.length), { a: [1, 2, 3] });
  assertEquals(await readJson(post(bytes, "application/json", bytes.length), bytes.length), { a: [1, 2, 3] });
});

Deno.test("readJson() refuses an empty body, one that is not UTF-8 and one that is not JSON", async () => {
  assertMatch((await assertRejects(() => readJson(post(""), 100), ApiError)).message, /empty/);
  const latin = new Uint8Array([0x22, 0xe9, 0x22]);
  assertMatch((await assertRejects(() => readJson(post(latin), 100), ApiError)).message, /not UTF-8/);
  await assertRejects(() => readJson(post("{"), 100), InvalidRequestError, "line 1, column 2");
});
