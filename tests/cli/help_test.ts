import { assert, assertStringIncludes } from "@std/assert";
import { helpText } from "../../cli/help.ts";
import { flagOf, OPTION_GROUPS, OPTIONS, variableOf } from "../../cli/options.ts";

const help = helpText("1.2.3");

Deno.test("helpText() explains every option under its group", () => {
  let at = 0;
  for (const [group, options] of Object.entries(OPTION_GROUPS)) {
    at = help.indexOf(`\n${group}:\n`, at);
    assert(at > 0, group);
    for (const name of Object.keys(options)) {
      const entry = help.indexOf(`\n  ${flagOf(name)}`, at);
      assert(entry > at, name);
      at = entry;
    }
  }
  for (const [name, { fallback, help: sentence }] of Object.entries(OPTIONS)) {
    const flat = help.replaceAll(/\s+/g, " ");
    assertStringIncludes(flat, `${sentence} Default: ${fallback}. [${variableOf(name)}]`);
  }
});

Deno.test("helpText() keeps to 110 columns", () => {
  for (const line of help.split("\n")) assert(line.length <= 110, line);
});
