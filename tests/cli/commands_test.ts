import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { readArguments, UsageError } from "../../cli/arguments.ts";
import { type Command, type CommandName, COMMANDS, optionsOf } from "../../cli/commands/table.ts";
import { writtenOut } from "../../cli/embedded.ts";
import { helpText } from "../../cli/help.ts";
import { flagOf, OPTIONS } from "../../cli/options.ts";

function read(args: readonly string[], environment: Record<string, string> = {}): Command {
  return readArguments(args, (name) => environment[name]);
}

Deno.test("readArguments() takes serve for what is not named", () => {
  assertEquals(read(["serve", "--port", "80"]), { kind: "serve", options: { port: 80 } });
  assertEquals(read(["--port", "80"]), read(["serve", "--port", "80"]));
});

Deno.test("readArguments() reads a prompt and its parameters, and the variables that a command knows", () => {
  const environment = { KVRM_MODEL: "m", KVRM_PORT: "not a port" };
  assertEquals(
    read(["run", "tell me", "--max-tokens", "8", "--temperature=0.5", "--top-p", "1", "--raw"], environment),
    {
      kind: "run",
      options: { model: "m", maxTokens: 8, temperature: 0.5, topP: 1, raw: true },
      prompt: "tell me",
    },
  );
  assertEquals(read(["run"]), { kind: "run", options: {}, prompt: null });
});

Deno.test("readArguments() takes what follows -- for words, and - for one", () => {
  assertEquals(read(["run", "--seed=1", "--", "--help"]), {
    kind: "run",
    options: { seed: 1 },
    prompt: "--help",
  });
});

Deno.test("readArguments() reads pull and bench", () => {
  assertEquals(read(["pull", "org/name@rev"]), { kind: "pull", model: "org/name@rev" });
  assertEquals(read(["pull", "org/name:Q8_0"]), { kind: "pull", model: "org/name:Q8_0" });
  assertEquals(read(["bench", "--json", "--threads", "2"]), {
    kind: "bench",
    options: { json: true, threads: 2 },
  });
});

Deno.test("readArguments() gives the help of the command that is asked for", () => {
  assertEquals(read(["help"]), { kind: "help", command: null });
  assertEquals(read(["help", "run"]), { kind: "help", command: "run" });
  assertEquals(read(["run", "--seed", "1", "-h"]), { kind: "help", command: "run" });
});

const refusals: [args: string[], part: string][] = [
  [["srve"], "did you mean the command serve?"],
  [["pull"], "pull needs more: kvrm pull org/name[@revision][:file]"],
  [["pull", "a/b", "c/d"], 'unexpected argument "c/d"'],
  [["run", "two", "words"], 'unexpected argument "words"; wanted kvrm run'],
  [["serve", "now"], 'unexpected argument "now"'],
  [["bench", "--port", "3"], "unknown flag --port"],
  [["run", "x", "--max-token", "3"], "did you mean --max-tokens?"],
  [["run", "x", "--temperature", "hot"], "a number from 0 to 100"],
  [["run", "x", "--top-p", "1.5"], "a number from 0 to 1"],
  [["--max-tokens", "3"], "unknown flag --max-tokens"],
  [["help", "nothing"], "help explains one of the commands serve, run, pull, bench"],
];
for (const [args, part] of refusals) {
  Deno.test(`readArguments() refuses ${args.join(" ")}`, () => {
    assertStringIncludes(assertThrows(() => read(args), UsageError).message, part);
  });
}

Deno.test("COMMANDS say the same of an option as the server does", () => {
  for (const command of Object.keys(COMMANDS) as CommandName[]) {
    for (const [name, option] of Object.entries(optionsOf(command))) {
      if (name in OPTIONS) assertEquals(option, OPTIONS[name as keyof typeof OPTIONS], `${command} ${name}`);
    }
  }
});

Deno.test("helpText() lists the commands and explains each one's flags within 110 columns", () => {
  const general = helpText("1.2.3");
  for (const [command, { about }] of Object.entries(COMMANDS)) {
    assertStringIncludes(general, about);
    const help = helpText("1.2.3", command as CommandName);
    for (const name of Object.keys(optionsOf(command as CommandName))) {
      assertStringIncludes(help, `\n  ${flagOf(name)}`);
    }
    for (const line of help.split("\n")) assert(line.length <= 110, line);
  }
});

Deno.test("writtenOut() copies a folder's files into the cache, and leaves right ones alone", () => {
  const root = Deno.makeTempDirSync({ prefix: "kvrm-embedded-" });
  try {
    Deno.mkdirSync(`${root}/tiny/train`, { recursive: true });
    Deno.writeTextFileSync(`${root}/tiny/a.json`, "{}");
    Deno.writeTextFileSync(`${root}/tiny/b.bin`, "weights");
    const folder = writtenOut(`${root}/tiny`, `${root}/cache`, "1.2.3");
    assertEquals(folder, `${root}/cache/kvrm/1.2.3/tiny`);
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name).sort(), ["a.json", "b.bin"]);
    const { ino } = Deno.statSync(`${folder}/b.bin`);
    Deno.writeTextFileSync(`${folder}/a.json`, "[]");
    writtenOut(`${root}/tiny`, `${root}/cache`, "1.2.3");
    assertEquals(Deno.statSync(`${folder}/b.bin`).ino, ino);
    assertEquals(Deno.readTextFileSync(`${folder}/a.json`), "{}");
  } finally {
    Deno.removeSync(root, { recursive: true });
  }
});

Deno.test("writtenOut() takes a temporary folder where the cache cannot be written", () => {
  const root = Deno.makeTempDirSync({ prefix: "kvrm-embedded-" });
  try {
    Deno.mkdirSync(`${root}/tiny`);
    Deno.writeTextFileSync(`${root}/tiny/a.json`, "{}");
    Deno.writeTextFileSync(`${root}/cache`, "a file where the folder should be");
    const folder = writtenOut(`${root}/tiny`, `${root}/cache`, "1.2.3");
    assert(!folder.startsWith(root), folder);
    assertEquals(Deno.readTextFileSync(`${folder}/a.json`), "{}");
    Deno.removeSync(folder, { recursive: true });
  } finally {
    Deno.removeSync(root, { recursive: true });
  }
});
