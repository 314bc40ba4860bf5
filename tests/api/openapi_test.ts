import { assert, assertEquals, assertMatch } from "@std/assert";
import { z } from "zod";
import { createApp } from "../../api/app.ts";
import { jsonSchema } from "../../api/openapi/document.ts";
import { list, neutral } from "../../api/schemas/fields.ts";
import { scriptedEngine } from "./scripted_engine.ts";

// deno-lint-ignore no-explicit-any
type Json = any;

const app = createApp(await scriptedEngine("qwen", () => ""));
const document = await (await app.request("/openapi.json")).json();

/** What is there to be read by people, and no part of the description. */
const UNDESCRIBED = ["get /openapi.json", "get /docs", "get /", "get /live", "get /page/{file}"];

Deno.test("GET /openapi.json describes every route, and nothing else", () => {
  const routes = app.routes.filter(({ method }) => method !== "ALL")
    .map(({ method, path }) => `${method.toLowerCase()} ${path.replace(/:(\w+)(\{.*?\})?/g, "{$1}")}`);
  const described = Object.entries(document.paths as Record<string, object>)
    .flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method} ${path}`));
  assertEquals([...described, ...UNDESCRIBED].sort(), [...new Set(routes)].sort());
});

Deno.test("GET /openapi.json names each operation and says what each status means", () => {
  const operations = Object.values(document.paths as Record<string, Record<string, unknown>>)
    // deno-lint-ignore no-explicit-any
    .flatMap((methods) => Object.values(methods)) as any[];
  assertEquals(new Set(operations.map(({ operationId }) => operationId)).size, operations.length);
  for (const { operationId, responses } of operations) {
    assert(operationId.length > 3 && "200" in responses);
    for (
      const { description, content } of Object.values(responses) as { description: string; content: object }[]
    ) {
      assert(description.length > 5 && Object.keys(content).length > 0, operationId);
    }
  }
});

Deno.test("GET /openapi.json has an example for each body, which is taken", async () => {
  for (const [path, methods] of Object.entries(document.paths as Record<string, Record<string, Json>>)) {
    const body = methods["post"]?.requestBody?.content["application/json"];
    if (body === undefined) continue;
    const headers = { "content-type": "application/json" };
    const response = await app.request(path, { method: "POST", headers, body: JSON.stringify(body.example) });
    assertEquals(response.status, 200, `${path}: ${await response.text()}`);
  }
});

Deno.test("jsonSchema() gives a list its elements and its bounds", () => {
  const schema = z.object({ ids: list(z.int("an id"), { min: 1, max: 4, wanted: "ids" }) });
  const { properties } = jsonSchema(schema) as { properties: { ids: Record<string, unknown> } };
  const { type, items, minItems, maxItems, description } = properties.ids;
  assertEquals([type, minItems, maxItems, description], ["array", 1, 4, "ids"]);
  assertEquals((items as { type: string }).type, "integer");
});

Deno.test("jsonSchema() leaves unknown fields open, and says which values a field without support takes", () => {
  const json = jsonSchema(z.object({ x: neutral(0) }));
  assertEquals(json["additionalProperties"], undefined);
  assertEquals(json["properties"], { x: { enum: [0, null], description: "not supported: 0 or absent" } });
});

Deno.test("GET /docs is a page that needs nothing but this server", async () => {
  const response = await app.request("/docs");
  const page = await response.text();
  assertMatch(response.headers.get("content-type")!, /^text\/html/);
  const links = [...page.matchAll(/(?:href|src)="([^"]*)"|fetch\("([^"]*)"/g)].map(([, a, b]) => a ?? b);
  assertEquals([...new Set(links)].sort(), ["data:,", "openapi.json"]);
  assert(page.length < 10_000);
});

/** As much of a document as the page's script needs. */
class FakeElement {
  textContent = "";
  children: (FakeElement | string)[] = [];
  #listeners = new Map<string, () => void>();
  constructor(readonly name: string) {}
  append(...children: (FakeElement | string)[]): void {
    this.children.push(...children);
  }
  replaceChildren(...children: (FakeElement | string)[]): void {
    this.children = children;
  }
  hasChildNodes(): boolean {
    return this.children.length > 0;
  }
  addEventListener(type: string, listener: () => void): void {
    this.#listeners.set(type, listener);
  }
  /** Opens whatever can be opened below. */
  open(): void {
    this.#listeners.get("toggle")?.();
    for (const child of this.children) if (child instanceof FakeElement) child.open();
  }
  text(): string {
    const inner = this.children.map((child) => child instanceof FakeElement ? child.text() : child);
    return [this.textContent, ...inner].join(" ");
  }
}

Deno.test("GET /docs shows every operation with its fields", async () => {
  const page = await (await app.request("/docs")).text();
  const script = /<script type="module">(.*)<\/script>/s.exec(page)![1]!;
  const [about, main] = [new FakeElement("p"), new FakeElement("main")];
  const browser = {
    querySelector: (selector: string) => selector === "main" ? main : about,
    createElement: (name: string) => new FakeElement(name),
  };
  const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
  await new AsyncFunction("document", "location", "fetch", script)(browser, { origin: "http://here" }, () => {
    return app.request("/openapi.json");
  });
  main.open();
  const text = main.text();
  for (
    const [path, methods] of Object.entries(
      document.paths as Record<string, Record<string, { summary: string }>>,
    )
  ) {
    assert(text.includes(path), path);
    for (const { summary } of Object.values(methods)) assert(text.includes(summary), summary);
  }
  for (
    const wanted of ["parallel_tool_calls", "stop_sequences", "a number from 0 to 100", "The queue is full"]
  ) {
    assert(text.includes(wanted), wanted);
  }
  assertMatch(about.text(), /^ kvrm /);
});
