import { assert, assertEquals, assertMatch } from "@std/assert";
import { startServer } from "./process.ts";
import { CANNOT_RUN, LIBRARY, ROOT, until } from "./service.ts";

/** A library whose steps stop coming back after a while: everything else is the real one's. */
const HANGING = `
#include <dlfcn.h>
#include <stdint.h>
#include <unistd.h>

typedef int32_t (*Wait)(uint32_t, uint32_t, uint8_t*, uint32_t);

int32_t kvrm_wait(uint32_t engine, uint32_t timeout_us, uint8_t* result, uint32_t capacity) {
  static int calls = 0;
  if (++calls > 50) {
    for (;;) pause();
  }
  return ((Wait)dlsym(RTLD_NEXT, "kvrm_wait"))(engine, timeout_us, result, capacity);
}
`;

async function bash(script: string): Promise<boolean> {
  return (await new Deno.Command("bash", { args: ["-c", script], stdout: "null", stderr: "null" }).output())
    .success;
}

const compiler = await bash("command -v cc");
const needed = { ignore: CANNOT_RUN || !compiler };

Deno.test(
  "server.ts notices an engine that hangs by its heartbeat, tells every stream, exits with 75",
  needed,
  async () => {
    const folder = `${ROOT}/build/hang`;
    await Deno.mkdir(folder, { recursive: true });
    await Deno.writeTextFile(`${folder}/hang.c`, HANGING);
    assert(
      await bash(
        `cc -D_GNU_SOURCE -shared -fPIC -o ${folder}/libkvrm_hang.so ${folder}/hang.c -Wl,--no-as-needed ${LIBRARY} -ldl ` +
          `-Wl,-rpath,${ROOT}/build`,
      ),
    );
    await using server = await startServer(["--lib", `${folder}/libkvrm_hang.so`, "--heartbeat-timeout=1"]);
    const answers = await Promise.all([1, 2].map(() =>
      fetch(`${server.url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ prompt: "Once upon a time", max_tokens: 500, ignore_eos: true, stream: true }),
      })
    ));
    for (const answer of answers) {
      const last = (await answer.text()).trimEnd().split("\n\n").at(-1)!;
      const { error } = JSON.parse(last.slice("data: ".length));
      assertEquals([error.code, error.message], ["failed", "the engine's worker has not answered for 1 s"]);
    }
    const { code } = await server.child.status;
    const { stderr } = await server.stop("SIGKILL");
    assertEquals(code, 75);
    assertMatch(stderr, /ERROR the engine's worker has not answered for 1 s; the process ends with 75$/m);
  },
);

Deno.test("server.ts goes on after it was stopped for longer than its heartbeat may take", {
  ignore: CANNOT_RUN,
}, async () => {
  await using server = await startServer(["--heartbeat-timeout=2"]);
  server.child.kill("SIGSTOP");
  await new Promise((resolve) => setTimeout(resolve, 3000));
  server.child.kill("SIGCONT");
  await new Promise((resolve) => setTimeout(resolve, 3000));
  await until(async () => {
    const response = await fetch(`${server.url}/ready`);
    return response.status === 200 && (await response.json()).ready;
  }, "it is ready");
  const { code, stderr } = await server.stop("SIGTERM");
  assertEquals(code, 0, stderr);
});
