import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "node:path";
import { InvalidRequestError, ModelError } from "../../runtime/errors.ts";
import { ChatTemplate } from "../../runtime/model/chat_template.ts";
import { strftime } from "../../runtime/model/jinja.ts";
import { ModelTokenizer } from "../../runtime/model/tokenizer.ts";
import { fixtureNames, FIXTURES, readGolden, TINY_TOKENIZER, withModel } from "./support.ts";

interface GoldenCase {
  name: string;
  messages: unknown[];
  tools: unknown[] | null;
  kwargs: Record<string, unknown>;
  add_generation_prompt: boolean;
  rendered?: string;
  error?: string;
}

for (const name of fixtureNames("chat")) {
  Deno.test(`ChatTemplate.render() equals transformers' for ${name}`, async () => {
    const template = (await ChatTemplate.fromFolder(join(FIXTURES, "chat", name)))!;
    for (const golden of readGolden("chat", name, "golden.json").cases as GoldenCase[]) {
      const render = () =>
        template.render(golden.messages, {
          addGenerationPrompt: golden.add_generation_prompt,
          variables: golden.kwargs,
          ...(golden.tools && { tools: golden.tools }),
        });
      if (golden.error === undefined) assertEquals(render(), golden.rendered, golden.name);
      else {
        const error = assertThrows(render, InvalidRequestError, golden.error);
        assertEquals(error.param, "messages");
      }
    }
  });
}

/**
 * Jinja that the library lacks. Each but the last is refused when the template is read or rendered, never rendered
 * wrongly; `tojson` has sort_keys in another order for non-ASCII keys.
 */
const UPSTREAM_GAPS = [
  "compare", // chained comparison
  "concat", // 'x' * 3
  "filters", // 'abc' | list
  "filters-on-lists", // select('odd')
  "numbers", // 1e-7
  "raw",
  "string-methods", // str.title(), count(), splitlines()
  "tests", // divisibleby 2
  "whitespace", // +%}
  "whole-floats", // 1e3
  "tojson",
];

Deno.test("ChatTemplate.render() does what Jinja does, but for gaps that are known", () => {
  const { cases, special_tokens, messages } = readGolden("chat", "features.json");
  const failed: string[] = [];
  for (const { name, template, rendered, error } of cases) {
    let got: string;
    try {
      got = new ChatTemplate(template, special_tokens).render(messages);
    } catch (thrown) {
      got = (thrown as Error).message;
    }
    if (error === undefined ? got !== rendered : !got.endsWith(error)) failed.push(name);
  }
  assertEquals(failed.sort(), UPSTREAM_GAPS.toSorted());
});

const render = (template: string, messages: unknown[] = []) => new ChatTemplate(template).render(messages);

Deno.test("ChatTemplate.render() keeps a loop's variables to one iteration", () => {
  assertEquals(
    render("{% set x = 0 %}{% for i in range(3) %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}"),
    "1110",
  );
  assertEquals(render("{% for i in range(2) %}{{ y is defined }}{% set y = 1 %}{% endfor %}"), "FalseFalse");
});

Deno.test("ChatTemplate.render() keeps what an iteration printed before break and continue", () => {
  const loop = "{% for i in range(4) %}<{{ i }}{% if i == 1 %}-{% continue %}{% endif %}" +
    "{% if i == 2 %}.{% break %}{% endif %}>{% endfor %}!";
  assertEquals(render(loop), "<0><1-<2.!");
  assertEquals(
    render("{% for i in range(2) %}{% for j in range(3) %}{{ j }}{% break %}{% endfor %},{% endfor %}"),
    "0,0,",
  );
  assertEquals(render("{% for i in range(2) %}{% continue %}{% else %}none{% endfor %}"), "");
});

Deno.test("ChatTemplate.render() prints values as Python does", () => {
  const values =
    `{{ [true, none, "it's", 'a"b', "\\n", 1.0] }} {{ {'k': (1, 2)} }} {{ true }} {{ none }} {{ 1 ~ false }}`;
  assertEquals(render(values), `[True, None, "it's", 'a"b', '\\n', 1.0] {'k': (1, 2)} True None 1False`);
});

Deno.test("ChatTemplate.render() passes a template's refusal on", () => {
  const template =
    "{% if messages | length == 0 %}{{ raise_exception('No messages, no prompt') }}{% endif %}";
  const error = assertThrows(() => render(template), InvalidRequestError);
  assertEquals(error.message, "the model's chat template refuses the messages: No messages, no prompt");
  assertThrows(() => render("{% if %}"), ModelError, 'the chat template: chat template "default"');
});

Deno.test("ChatTemplate.render() gives templates the date", () => {
  assertEquals(render("{{ strftime_now('%Y') }}"), String(new Date().getFullYear()));
  const date = new Date(2024, 6, 5, 15, 4, 9);
  assertEquals(strftime(date, "%d %b %Y"), "05 Jul 2024");
  assertEquals(
    strftime(date, "%A, %B %-d, %y %H:%M:%S %I %p %j %%"),
    "Friday, July 5, 24 15:04:09 03 PM %j %",
  );
});

Deno.test("ChatTemplate.fromFolder() prefers chat_template.jinja, then chat_template.json", async () => {
  const config = { bos_token: { content: "<s>" }, chat_template: "config" };
  const rendered = async (files: Record<string, object | string>, wanted: string | undefined) =>
    await withModel(
      files,
      async (folder) => assertEquals((await ChatTemplate.fromFolder(folder))?.render([]), wanted),
    );
  await rendered(
    { "tokenizer_config.json": config, "chat_template.jinja": "{{ bos_token }}file" },
    "<s>file",
  );
  await rendered(
    { "tokenizer_config.json": config, "chat_template.json": { chat_template: "json" } },
    "json",
  );
  await rendered({ "tokenizer_config.json": config }, "config");
  await rendered({}, undefined);
  await withModel({ "tokenizer_config.json": { chat_template: [{ name: 1 }] } }, async (folder) => {
    await assertRejects(
      () => ChatTemplate.fromFolder(folder),
      ModelError,
      "tokenizer_config.json: chat_template",
    );
  });
});

Deno.test("ChatTemplate.render() and encode() without special tokens give BOS once", () => {
  const config = { bos_token: "<s>", add_bos_token: true };
  const tokenizer = ModelTokenizer.fromJson(TINY_TOKENIZER, config);
  const text = new ChatTemplate("{{ bos_token }}{{ messages[0].content }}", config).render([{
    content: "abc",
  }]);
  assertEquals(tokenizer.encode(text, { addSpecialTokens: false }), [1, 7]);
});

Deno.test("ChatTemplate.render() ends within the last message to continue it", () => {
  const turns = (content: string) => [{ role: "user", content: "Hi" }, { role: "assistant", content }];
  const render = (source: string, content: string) =>
    new ChatTemplate(source).render(turns(content), { continueFinalMessage: true });
  const source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}<assistant>";
  assertEquals(render(source, " Once upon "), "<user>Hi</s><assistant> Once upon ");
  const trimming = source.replace("m.content", "m.content | trim");
  assertEquals(render(trimming, " Once upon "), "<user>Hi</s><assistant>Once upon");
  for (const [template, content] of [[source, " "], ["<user>", "Once"]] as const) {
    assertThrows(() => render(template, content), InvalidRequestError, "cannot be continued");
  }
});
