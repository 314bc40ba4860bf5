import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { checkVariables, readArguments, UsageError } from "../../cli/arguments.ts";
import { prepareConfig } from "../../cli/config_file.ts";

await prepareConfig();

function read(text: string, line = "", environment: Record<string, string> = {}) {
  const args = ["--config", "c.json", ...line.split(" ").filter(Boolean)];
  const command = readArguments(args, (name) => environment[name], (path) => {
    assertEquals(path, "c.json");
    return text;
  });
  const { config: _, ...options } = command.kind === "serve" ? command.options : {};
  return options;
}

Deno.test("readArguments() takes names in both spellings and values of every kind from the file", () => {
  assertEquals(
    read(`{
      // a comment
      "kvMode": "paged", "block-tokens": 64, "noop": true, "prefix-cache": false,
      "kv-memory": "2GiB", "corsOrigin": ["https://a", "https://b"], "drainTimeout": 2.5,
    }`),
    {
      kvMode: "paged",
      blockTokens: 64,
      noop: true,
      prefixCache: false,
      kvMemory: 2 ** 31,
      corsOrigin: ["https://a", "https://b"],
      drainTimeout: 2.5,
    },
  );
});

Deno.test("readArguments() puts a flag over a variable, and a variable over the file", () => {
  const text = '{"slots": 1, "port": 1, "threads": 1}';
  assertEquals(read(text, "--slots 3", { KVRM_SLOTS: "2", KVRM_PORT: "2" }), {
    slots: 3,
    port: 2,
    threads: 1,
  });
  assertEquals(readArguments([], () => undefined).kind, "serve");
});

Deno.test("readArguments() checks what flags and the file say together", () => {
  const refused = assertThrows(() => read('{"kv-mode": "static"}', "--prefix-cache"), UsageError);
  assertStringIncludes(refused.message, "--kv-mode static");
});

Deno.test("readArguments() refuses a config file within a config file", () => {
  assertStringIncludes(assertThrows(() => read('{"config": "d.json"}'), UsageError).message, '"config"');
});

Deno.test("checkVariables() knows options, leaves others' variables alone, and refuses the rest", () => {
  checkVariables([
    "KVRM_SLOTS",
    "KVRM_PORT",
    "KVRM_SERVICE_HOST",
    "KVRM_PORT_8000_TCP",
    "KVRM_TEST_MODEL",
    "HOME",
  ]);
  const { message } = assertThrows(() => checkVariables(["KVRM_SLOT"]), UsageError);
  assertStringIncludes(message, "unknown variable KVRM_SLOT; did you mean KVRM_SLOTS?");
});

Deno.test("readArguments() passes over the KVRM_PORT that Kubernetes sets", () => {
  assertEquals(read("{}", "", { KVRM_PORT: "tcp://10.0.0.1:8000" }), {});
});
