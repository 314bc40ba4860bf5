import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { type EmbeddedFile, embeddedFiles } from "./compiled.ts";
import { CANNOT_RUN, ROOT } from "./service.ts";

const BASE = "/bin/true"; // any program will do to put files behind
const needed = { ignore: CANNOT_RUN || Deno.build.os !== "linux" || !existsSync(BASE) };
const PACKAGES = ".deno_compile_node_modules/localhost/";

interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

async function compile(output: string, denort: string): Promise<Result> {
  const args = ["run", "--allow-run", "--allow-read", "--allow-env", `${ROOT}/scripts/compile.ts`, output];
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    env: { DENORT_BIN: denort, NO_COLOR: "1" },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

/**
 * Lays the files out as a checkout and a cache of packages, with nothing else: what starts there needs nothing that
 * the program does not hold.
 */
function layOut(files: readonly EmbeddedFile[], root: string): void {
  for (const { path, bytes } of files) {
    const place = path.startsWith(PACKAGES)
      ? `cache/npm/registry.npmjs.org/${path.slice(PACKAGES.length)}`
      : `tree/${path}`;
    Deno.mkdirSync(dirname(`${root}/${place}`), { recursive: true });
    Deno.writeFileSync(`${root}/${place}`, bytes);
  }
  // Which package takes which: the program has it in a form of its own. Deno asks for all packages that are named.
  const imports = Object.entries(config.imports).filter(([name]) =>
    existsSync(`${root}/cache/npm/registry.npmjs.org/${name}`)
  );
  const settings = JSON.stringify({ ...config, imports: Object.fromEntries(imports) });
  Deno.writeTextFileSync(`${root}/tree/deno.json`, settings);
  Deno.copyFileSync(`${ROOT}/deno.lock`, `${root}/tree/deno.lock`);
}

/** Starts the server of such a tree, which may read nothing else. */
async function serve(root: string): Promise<{ url: string; child: Deno.ChildProcess }> {
  const tree = `${root}/tree`;
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-prompt", "--cached-only", "--allow-net=127.0.0.1", `--allow-read=${tree}`],
      ...["--allow-env", `--allow-ffi=${tree}/build`, `${tree}/server.ts`, "--port=0", "--backend=cpu"],
    ],
    cwd: tree,
    clearEnv: true,
    env: { DENO_DIR: `${root}/cache`, HOME: root, PATH: "/usr/bin:/bin", NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const stderr = new Response(child.stderr).text();
  let line = "";
  for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) {
    line += part;
    if (line.includes("\n")) break;
  }
  const url = /http:\/\/[\w.:]+/.exec(line)?.[0];
  if (url === undefined) throw new Error(`the server did not start: ${line}${await stderr}`);
  return { url, child };
}

Deno.test(
  "scripts/compile.ts embeds all that the server needs: modules, workers, packages, library, model, page",
  needed,
  async () => {
    const root = await Deno.makeTempDir({ prefix: "kvrm-compile-" });
    try {
      const output = `build/compile_test_${Deno.pid}`;
      const { code, stdout } = await compile(output, BASE);
      const program = Deno.readFileSync(`${ROOT}/${output}`);
      Deno.removeSync(`${ROOT}/${output}`);
      assertEquals(code, 3, stdout); // made, but /bin/true runs nothing
      assertStringIncludes(stdout, `MiB, kvrm ${config.version}, Deno ${Deno.version.deno}`);

      const files = embeddedFiles(program);
      for (const path of ["build/libkvrm_cpu.so", "models/tiny/model.safetensors", "runtime/worker.ts"]) {
        const embedded = files.find((file) => file.path === path);
        assert(embedded !== undefined, path);
        const hash = (bytes: Uint8Array) => crypto.subtle.digest("SHA-256", bytes as BufferSource);
        assertEquals(await hash(embedded!.bytes), await hash(Deno.readFileSync(`${ROOT}/${path}`)), path);
      }
      layOut(files, root);
      const { url, child } = await serve(root);
      try {
        for (const path of ["/ready", "/", "/page/page.js", "/metrics", "/openapi.json"]) {
          const response = await fetch(url + path);
          assertEquals(response.status, 200, path);
          await response.body?.cancel();
        }
        const answer = await fetch(`${url}/v1/chat/completions`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({
            model: "tiny",
            messages: [{ role: "user", content: "Yes or no?" }],
            guided_choice: ["yes", "no"],
          }),
        });
        const body = await answer.json();
        assertEquals(answer.status, 200, JSON.stringify(body));
        assertMatch(body.choices[0].message.content, /^(yes|no)$/);
      } finally {
        child.kill("SIGTERM");
        await child.status;
      }
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  },
);

Deno.test("scripts/compile.ts says how to name a denort where there is none", needed, async () => {
  const { code, stdout, stderr } = await compile("build/compile_test_none", "/nowhere/denort");
  assertEquals([code, stdout], [1, ""]);
  assertStringIncludes(stderr, "DENORT_BIN names /nowhere/denort, where there is no file");
  assertStringIncludes(stderr, `https://dl.deno.land/release/v${Deno.version.deno}/denort-`);
});
