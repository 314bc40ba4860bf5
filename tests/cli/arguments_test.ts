import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { readArguments, UsageError } from "../../cli/arguments.ts";
import { flagOf, OPTIONS, type ServerOptions, variableOf } from "../../cli/options.ts";

type Environment = Record<string, string>;

function read(line: string, environment: Environment = {}): ServerOptions {
  const command = readArguments(line.split(" ").filter(Boolean), (name) => environment[name]);
  return command.kind === "serve" ? command.options : {};
}

function refusal(line: string, environment: Environment = {}): string {
  return assertThrows(() => read(line, environment), UsageError).message;
}

Deno.test("readArguments() leaves out what was not asked for", () => {
  assertEquals(read(""), {});
});

Deno.test("readArguments() reads --name value, --name=value and switches", () => {
  assertEquals(
    read("--model m/x --port=0 --kv-memory 2GiB --block-tokens 64 --no-prefix-cache --noop --kv-mode paged"),
    {
      model: "m/x",
      port: 0,
      kvMemory: 2 ** 31,
      blockTokens: 64,
      prefixCache: false,
      noop: true,
      kvMode: "paged",
    },
  );
});

Deno.test("readArguments() reads the environment; a flag wins over it, an empty variable is none", () => {
  const environment = { KVRM_SLOTS: "8", KVRM_PORT: "1234", KVRM_PREFIX_CACHE: "false", KVRM_HOST: "" };
  assertEquals(read("--port 80", environment), { slots: 8, port: 80, prefixCache: false });
});

Deno.test("readArguments() gives every option a flag and a variable that lead back to it", () => {
  for (const [name, { value }] of Object.entries(OPTIONS)) {
    if (value === undefined) {
      assertEquals(read(flagOf(name)), { [name]: true });
      assertEquals(read("", { [variableOf(name)]: "0" }), { [name]: false });
    } else {
      assertStringIncludes(refusal(`${flagOf(name)}=`), `${flagOf(name)} is ""; it must be `);
    }
  }
});

const refusals: [line: string, parts: string[]][] = [
  ["--slot 3", ["unknown flag --slot", "did you mean --slots?"]],
  ["--kv-memry 3", ["unknown flag --kv-memry", "did you mean --kv-memory?"]],
  ["--no-prefix-cach", ["did you mean --no-prefix-cache?"]],
  ["--served 3", ["did you mean --served-model-name?"]],
  ["--xyzzy", ["unknown flag --xyzzy (--help lists all flags)"]],
  ["-x", ["unknown flag -x"]],
  ["--no-slots", ["unknown flag --no-slots"]],
  ["--slots many", ['--slots is "many"', "an integer from 1 to 256"]],
  ["--slots 0", ['--slots is "0"', "an integer from 1 to 256"]],
  ["--kv-mode fast", ['--kv-mode is "fast"', "kv-rm, static, static-padded or paged"]],
  ["--block-tokens 33", ['--block-tokens is "33"', "16, 32 or 64"]],
  ["--kv-memory 2G", ['--kv-memory is "2G"', "a size such as 512MiB"]],
  ["--slots", ["--slots needs a value: an integer from 1 to 256"]],
  ["--slots --port 3", ["--slots needs a value"]],
  ["--noop=true", ['--noop takes no value; found "true"']],
  ["--port 1 --port 2", ["--port is given twice", '"1"', '"2"']],
  ["--prefix-cache --no-prefix-cache", ["contradict each other"]],
  ["--kv-mode static --prefix-cache", ["--prefix-cache", "--kv-mode static"]],
  ["--kv-mode static-padded --prefix-cache", ["--prefix-cache", "--kv-mode static-padded"]],
  ["--mixed-chunk 512", ["--mixed-chunk is 512", "at most --prefill-chunk, 256"]],
  ["models/tiny", ['unexpected argument "models/tiny"']],
];

for (const [line, parts] of refusals) {
  Deno.test(`readArguments() refuses "${line}" and says why`, () => {
    const message = refusal(line);
    for (const part of parts) assertStringIncludes(message, part);
  });
}

Deno.test("readArguments() names the variable that is wrong", () => {
  assertStringIncludes(refusal("", { KVRM_SLOTS: "x" }), 'KVRM_SLOTS is "x"; it must be an integer');
  assertStringIncludes(refusal("", { KVRM_NOOP: "yes" }), 'KVRM_NOOP is "yes"; it must be true or false');
  assertStringIncludes(refusal("", { KVRM_KV_MODE: "static", KVRM_PREFIX_CACHE: "1" }), "--kv-mode static");
});

Deno.test("readArguments() takes a flag that is repeated with the same value", () => {
  assertEquals(read("--port 1 --port=1"), { port: 1 });
});

Deno.test("readArguments() puts help and version before all else", () => {
  for (
    const [line, kind] of [["--slots 3 --help", "help"], ["-h", "help"], ["--version", "version"]] as const
  ) {
    assertEquals(readArguments(line.split(" "), () => "broken").kind, kind);
  }
});
