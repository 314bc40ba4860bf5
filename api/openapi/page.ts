/**
 * A page that shows /openapi.json: one file, no network beyond this server, light and dark.
 *
 * @module
 */

/** The page's HTML. */
export const DOCS_PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>kvrm API</title>
<link rel="icon" href="data:,">
<style>
  :root { --line: light-dark(#ddd, #333); --soft: light-dark(#666, #999); --back: light-dark(#f6f6f4, #1b1b1d); }
  body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem 1rem 4rem; }
  h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
  p, .soft { color: var(--soft); }
  details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; }
  summary { cursor: pointer; padding: .5rem .8rem; } details > div { padding: 0 .8rem .8rem; overflow-x: auto; }
  code, .method { font-family: ui-monospace, monospace; font-size: .9em; }
  .method { display: inline-block; min-width: 4.2em; font-weight: 600; }
  table { border-collapse: collapse; width: 100%; margin: .3rem 0 .8rem; }
  td { border-top: 1px solid var(--line); padding: .25rem .8rem .25rem 0; vertical-align: top; }
  h3 { font-size: .9rem; margin: .8rem 0 .2rem; }
  pre { background: var(--back); padding: .6rem; border-radius: 6px; overflow-x: auto; margin: 0; }
</style>
<h1>kvrm API</h1>
<p id="about">Loading <a href="openapi.json">openapi.json</a> …</p>
<main></main>
<noscript><p>This page needs JavaScript; <a href="openapi.json">openapi.json</a> does not.</p></noscript>
<script type="module">
const make = (name, fields = {}, ...children) => {
  const element = Object.assign(document.createElement(name), fields);
  element.append(...children);
  return element;
};
const code = (text) => make("code", { textContent: text });
const options = (schema) => schema.anyOf ?? schema.oneOf ?? [schema];
const isNull = (schema) => schema.type === "null";
const typeOf = (schema) => {
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf || schema.oneOf) {
    return [...new Set(options(schema).filter((one) => !isNull(one)).map(typeOf))].join(" | ");
  }
  if (schema.type === "array") return "array of " + (schema.items ? typeOf(schema.items) : "anything");
  const types = [schema.type ?? "anything"].flat().filter((type) => type !== "null");
  const bounds = [schema.minimum, schema.maximum];
  const range = bounds.some((bound) => bound !== undefined && Math.abs(bound) < 2 ** 31 - 1)
    ? " " + bounds.map((bound) => bound ?? "").join(" … ")
    : "";
  return types.join(" | ") + range;
};
const noteOf = (schema) => schema.description ?? options(schema).map((one) => one.description).find(Boolean) ?? "";
const objectsIn = (schema) => options(schema).flatMap((one) =>
  one.properties ? [one] : one.items ? objectsIn(one.items) : one.anyOf || one.oneOf ? objectsIn(one) : []);
const table = (schema, depth = 0) => {
  const required = new Set(schema.required);
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]) => {
    const inner = depth < 4 ? objectsIn(field) : [];
    const about = make("td", { textContent: noteOf(field) }, ...inner.map((one) => table(one, depth + 1)));
    const label = make("td", {}, code(name));
    if (required.has(name)) label.append(make("span", { className: "soft", textContent: " needed" }));
    return make("tr", {}, label, make("td", { className: "soft", textContent: inner.length ? "" : typeOf(field) }), about);
  });
  return make("table", {}, ...rows);
};
const section = (title, schema) => {
  const found = objectsIn(schema);
  return [make("h3", { textContent: title }), ...(found.length ? found.map((one) => table(one)) : [code(typeOf(schema))])];
};
const show = (path, method, operation) => {
  const body = make("div");
  const box = make("details", { id: operation.operationId }, make("summary", {},
    make("span", { className: "method", textContent: method.toUpperCase() }), code(path),
    make("span", { className: "soft", textContent: "  " + operation.summary })), body);
  box.addEventListener("toggle", () => {
    if (body.hasChildNodes()) return;
    const asked = operation.requestBody?.content["application/json"];
    if (asked) {
      const command = "curl " + location.origin + path + " -H 'content-type: application/json' -d '" +
        JSON.stringify(asked.example) + "'";
      body.append(make("pre", { textContent: command }), ...section("Body", asked.schema));
    }
    for (const [type, { schema }] of Object.entries(operation.responses[200].content)) {
      const data = schema.properties?.data;
      const event = data && options(data)[0].contentSchema?.anyOf[0];
      body.append(...section("200 " + type + (event ? ", each event's data" : ""), event ?? schema));
    }
    const rows = Object.entries(operation.responses).filter(([status]) => status !== "200").map(([status, answer]) =>
      make("tr", {}, make("td", {}, code(status)), make("td", { textContent: answer.description })));
    body.append(make("h3", { textContent: "Errors" }), make("table", {}, ...rows));
  });
  return box;
};
try {
  const document_ = await (await fetch("openapi.json")).json();
  document.querySelector("#about").replaceChildren(document_.info.title + " " + document_.info.version + ". " +
    document_.info.description + " ", make("a", { href: "openapi.json", textContent: "openapi.json" }));
  const tags = new Map();
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const [tag] = operation.tags;
      if (!tags.has(tag)) tags.set(tag, [make("h2", { textContent: tag })]);
      tags.get(tag).push(show(path, method, operation));
    }
  }
  document.querySelector("main").append(...[...tags.values()].flat());
} catch (error) {
  document.querySelector("#about").textContent = "openapi.json could not be read: " + error.message;
}
</script>
</html>
`;
