import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { type Process, runServer, startServer } from "./process.ts";
import { CANNOT_RUN, until } from "./service.ts";

const needed = { ignore: CANNOT_RUN };

function ask(url: string, body: Record<string, unknown>, headers: Record<string, string> = {}) {
  return fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ prompt: "Once upon a time", max_tokens: 5, ignore_eos: true, ...body }),
  });
}

async function status(url: string, headers: Record<string, string> = {}): Promise<number> {
  const response = await fetch(url, { headers });
  await response.body?.cancel();
  return response.status;
}

async function get(url: string) {
  const response = await fetch(url);
  return { status: response.status, body: await response.json() };
}

/** More than a second of work for one slot; with `n` a multiple of that. */
const LONG = { max_tokens: 1900, stream: true };

async function withFile<T>(text: string, use: (path: string) => Promise<T>): Promise<T> {
  const path = await Deno.makeTempFile({ suffix: ".json" });
  await Deno.writeTextFile(path, text);
  try {
    return await use(path);
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("server.ts wants one of its keys, of probes none, of /metrics as told", needed, async () => {
  const keys = "# two keys\nsecret-one\n\nsecret-two\n";
  await withFile(keys, async (path) => {
    await using server = await startServer(["--api-keys-file", path], { KVRM_API_KEYS: "mine,other" });
    const { url } = server;
    assertEquals(await status(`${url}/health`), 200);
    assertEquals(await status(`${url}/ready`), 200);
    for (const guarded of ["/metrics", "/v1/models", "/nothing"]) {
      assertEquals(await status(url + guarded), 401, guarded);
    }
    for (const key of ["mine", "other", "secret-one", "secret-two"]) {
      assertEquals(await status(`${url}/v1/models`, { authorization: `Bearer ${key}` }), 200, key);
      assertEquals(await status(`${url}/v1/models`, { "x-api-key": key }), 200, key);
    }
    for (const authorization of ["Bearer min", "Bearer mine2", "Basic mine", "mine", "Bearer"]) {
      const response = await ask(url, {}, { authorization });
      const { error } = await response.json();
      assertEquals([response.status, error.type, error.code], [
        401,
        "authentication_error",
        "invalid_api_key",
      ]);
      assertEquals(response.headers.get("www-authenticate"), "Bearer");
    }
    const { stderr } = await server.stop("SIGTERM");
    assert(!stderr.includes("secret") && !stderr.includes("mine"), stderr);
  });
  await using open = await startServer(["--metrics-without-key"], { KVRM_API_KEYS: "mine" });
  assertEquals([await status(`${open.url}/metrics`), await status(`${open.url}/v1/models`)], [200, 401]);
});

Deno.test(
  "server.ts drains on SIGTERM: not ready at once, finishes what runs, takes nothing new",
  needed,
  async () => {
    await using server = await startServer(["--drain-timeout=600", "--slots=1", "--threads=1"]);
    assertEquals(await get(`${server.url}/ready`), {
      status: 200,
      body: { ready: true, model: "tiny", reasons: [] },
    });
    const running = await ask(server.url, { ...LONG, n: 2 });
    server.child.kill("SIGTERM");
    await until(async () => (await get(`${server.url}/ready`)).status === 503, "it is not ready");
    const { body } = await get(`${server.url}/ready`);
    assertEquals(body.reasons, ["draining: 1 requests are being finished"]);
    assertEquals((await get(`${server.url}/health`)).status, 200);
    const refused = await ask(server.url, {});
    assertEquals([refused.status, (await refused.json()).error.code], [503, "draining"]);
    assertMatch(refused.headers.get("retry-after") ?? "", /^\d+$/);
    const text = await running.text();
    assert(text.endsWith("data: [DONE]\n\n"), text.slice(-300));
    assertEquals((await server.child.status).code, 0);
  },
);

Deno.test("server.ts ends requests that take longer than --request-timeout", needed, async () => {
  await using server = await startServer(["--request-timeout", "1.5", "--slots", "1"]);
  const [streamed, plain] = await Promise.all([
    ask(server.url, { ...LONG, n: 64 }).then((response) => response.text()),
    ask(server.url, { max_tokens: 1900, n: 64 }),
  ]);
  const last = JSON.parse(streamed.trimEnd().split("\n\n").at(-1)!.slice("data: ".length));
  assertEquals([last.error.code, last.error.message], ["timeout", "the request took longer than 1.5 s"]);
  const { error } = await plain.json();
  assertEquals([plain.status, error.code, error.type], [504, "timeout", "server_error"]);
  await until(async () => (await get(`${server.url}/health`)).body.running === 0, "the slot is free");
  const { stderr } = await server.stop("SIGTERM");
  assertMatch(stderr, / status=504 .*error=timeout/);
});

Deno.test("server.ts counts a slow body against --request-timeout", needed, async () => {
  await using server = await startServer(["--request-timeout", "0.3"]);
  const body = JSON.stringify({ prompt: "Once", max_tokens: 1500, ignore_eos: true });
  const pieces = async function* () {
    for (const piece of [body.slice(0, 10), body.slice(10)]) {
      yield new TextEncoder().encode(piece);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  };
  const response = await fetch(`${server.url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: ReadableStream.from(pieces()),
  });
  assertEquals([response.status, (await response.json()).error.code], [504, "timeout"]);
});

Deno.test(
  "server.ts says which limit a prompt, a body or the queue has passed, and by how much",
  needed,
  async () => {
    await using server = await startServer([
      "--max-prompt=8",
      "--max-body=1KiB",
      "--max-queue=40",
      "--slots=1",
    ]);
    const prompt = await ask(server.url, { prompt: Array(9).fill(1) });
    assertEquals([prompt.status, (await prompt.json()).error.message], [
      400,
      "the prompt has 9 tokens; this server takes at most 8",
    ]);
    const body = await ask(server.url, { prompt: "a".repeat(2000) });
    assertEquals(body.status, 413);
    assertMatch(
      (await body.json()).error.message,
      /^The request body has 20\d\d bytes; the limit is 1024 bytes\.$/,
    );
    const first = await ask(server.url, { ...LONG, n: 39 });
    const queue = await ask(server.url, { n: 2 });
    assertEquals(queue.status, 429);
    assertEquals((await queue.json()).error.code, "overloaded");
    assert(Number(queue.headers.get("retry-after")) >= 1);
    await first.body?.cancel();
  },
);

/** A connection that asks for far more than fits its buffers, and reads nothing of it. */
async function flood(url: string): Promise<Deno.TcpConn> {
  const { hostname, port } = new URL(url);
  const connection = await Deno.connect({ hostname, port: Number(port) });
  const body = JSON.stringify({ prompt: "a", max_tokens: 1900, n: 128, stream: true, ignore_eos: true });
  const head = `POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n` +
    `content-length: ${body.length}\r\n\r\n`;
  await connection.write(new TextEncoder().encode(head + body));
  return connection;
}

Deno.test("server.ts ends a stream whose client does not read, and frees its slots", needed, async () => {
  await using server = await startServer([
    "--noop",
    "--max-backlog=2000",
    "--slots=128",
    "--log-format=json",
  ]);
  using connection = await flood(server.url);
  const ended = /request_success_total\{.*finished_reason="error"\} [1-9]/;
  await until(
    async () => ended.test(await (await fetch(`${server.url}/metrics`)).text()),
    "it was ended",
  );
  await until(async () => (await get(`${server.url}/health`)).body.running === 0, "its slots are free");
  connection.close();
  await until(async () => (await get(`${server.url}/ready`)).status === 200, "it goes on");
  const { stderr } = await server.stop("SIGTERM");
  const lines = stderr.trim().split("\n").map((line) => JSON.parse(line));
  const request = lines.find(({ route }) => route === "POST /v1/completions");
  assertEquals([request.error, request.level], ["slow_reader", "info"]);
});

Deno.test("server.ts cuts off who does not even read that its time is over", needed, async () => {
  const flags = [
    "--noop",
    "--max-backlog=1000000",
    "--slots=128",
    "--request-timeout=0.5",
    "--drain-timeout=600",
  ];
  await using server = await startServer(flags);
  using _ = await flood(server.url);
  // It may be over before anybody has seen it run.
  const taken = /prompt_tokens_total\{.*\} [1-9]/;
  await until(
    async () => taken.test(await (await fetch(`${server.url}/metrics`)).text()),
    "it has begun",
  );
  const { code, stderr } = await server.stop("SIGTERM");
  assertEquals(code, 0);
  assert(!stderr.includes("cancelling what still runs"), "it waited for a reader until the drain's end");
  assertMatch(stderr, /INFO request .*error=timeout/);
});

Deno.test("server.ts lets pages of --cors-origin call it, and no others", needed, async () => {
  const origin = "https://app.example";
  const preflight = (url: string, from: string) =>
    fetch(`${url}/v1/chat/completions`, {
      method: "OPTIONS",
      headers: { origin: from, "access-control-request-method": "POST" },
    });
  const allowed = "access-control-allow-origin";
  {
    await using server = await startServer(["--cors-origin", origin, "--api-keys", "k"]);
    const granted = await preflight(server.url, origin);
    assertEquals([granted.status, granted.headers.get(allowed)], [204, origin]);
    assertEquals((await preflight(server.url, "https://other.example")).headers.get(allowed), null);
    const answer = await ask(server.url, {}, { origin, authorization: "Bearer k" });
    assertEquals([answer.status, answer.headers.get(allowed)], [200, origin]);
    await answer.body?.cancel();
  }
  await using server = await startServer();
  const refused = await preflight(server.url, origin);
  assertEquals([refused.status, refused.headers.get(allowed)], [405, null]);
  await refused.body?.cancel();
});

Deno.test("server.ts takes options from a config file, below variables and flags", needed, async () => {
  const config = `{
    // with comments
    "slots": 3, "kv-mode": "paged", "servedModelName": "filed", "logLevel": "off", "port": 1,
  }`;
  await withFile(config, async (path) => {
    await using server = await startServer(["--slots=5", "--config", path], { KVRM_KV_MODE: "static" });
    for (const part of ["model filed ", "; 5 slots; ", "(static, "]) assertStringIncludes(server.line, part);
    assertEquals(await server.stop("SIGTERM"), { code: 0, stderr: "" });
  });
  const wrong: [text: string, parts: string[]][] = [
    ['{"slot": 3}', ['unknown option "slot"', 'did you mean "slots"?']],
    ['{"slots": "many"}', ['"slots" is "many"', "an integer from 1 to 256"]],
    ['{"slots": 3, }}', ["is not JSON", "line 1"]],
    ['{"slots": {}}', ['"slots" is {}']],
    ["[]", ["one JSON object"]],
    ['{"kv-mode": "paged", "kvMode": "paged"}', ['"kvMode" is given twice']],
  ];
  for (const [text, parts] of wrong) {
    await withFile(text, async (path) => {
      const { code, stdout, stderr } = await runServer([], { KVRM_CONFIG: path });
      assertEquals([code, stdout, stderr.split("\n").length], [2, "", 2], stderr);
      for (const part of ["kvrm: ", path, ...parts]) assertStringIncludes(stderr, part);
    });
  }
});

Deno.test("server.ts refuses variables that it does not know, and half a TLS", needed, async () => {
  const refusals: [flags: string[], environment: Record<string, string>, part: string][] = [
    [[], { KVRM_SLOT: "3" }, "unknown variable KVRM_SLOT; did you mean KVRM_SLOTS?"],
    [["--tls-cert", "/x.pem"], {}, "--tls-cert is given without --tls-key"],
    [["--api-keys-file", "/nowhere/keys"], {}, "--api-keys-file: cannot read /nowhere/keys"],
  ];
  for (const [flags, environment, part] of refusals) {
    const { code, stderr } = await runServer(flags, environment);
    assertEquals([code, stderr.split("\n").length], [2, 2], stderr);
    assertStringIncludes(stderr, part);
  }
});

/** A certificate for 127.0.0.1; null without openssl. */
async function certificate(folder: string): Promise<boolean> {
  const { success } = await new Deno.Command("bash", {
    args: [
      "-c",
      `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=kvrm \
        -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE -keyout ${folder}/key.pem -out ${folder}/cert.pem`,
    ],
    stdout: "null",
    stderr: "null",
  }).output();
  return success;
}

const openssl =
  (await new Deno.Command("bash", { args: ["-c", "command -v openssl"], stdout: "null" }).output()).success;

Deno.test("server.ts speaks TLS when given a certificate", { ignore: CANNOT_RUN || !openssl }, async () => {
  const folder = await Deno.makeTempDir();
  assert(await certificate(folder));
  {
    await using server: Process = await startServer([
      `--tls-cert=${folder}/cert.pem`,
      `--tls-key=${folder}/key.pem`,
    ]);
    assertMatch(server.url, /^https:/);
    using client = Deno.createHttpClient({ caCerts: [await Deno.readTextFile(`${folder}/cert.pem`)] });
    const response = await fetch(`${server.url}/ready`, { client });
    assertEquals([response.status, (await response.json()).ready], [200, true]);
    assertEquals((await server.stop("SIGTERM")).code, 0);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("server.ts writes one line per request, as JSON if told", needed, async () => {
  await using server = await startServer(["--log-format", "json"]);
  await (await ask(server.url, { n: 2 }, { "x-request-id": "mine" })).body?.cancel();
  await (await ask(server.url, { stream: true, temperature: -1 })).body?.cancel();
  assertEquals((await get(`${server.url}/health`)).status, 200);
  const leaving = new AbortController();
  const response = await fetch(`${server.url}/v1/completions`, {
    method: "POST",
    signal: leaving.signal,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt: "a", ...LONG, n: 128, ignore_eos: true }),
  });
  await response.body!.getReader().read();
  leaving.abort();
  await until(async () => (await get(`${server.url}/health`)).body.running === 0, "nothing runs");
  const { stderr } = await server.stop("SIGTERM");
  const requests = stderr.trim().split("\n").map((line) => JSON.parse(line)).filter(({ message }) =>
    message === "request"
  );
  assertEquals(requests.length, 3, stderr);
  const [first, second, third] = requests;
  assertEquals(
    [first.id, first.route, first.status, first.model, first.stream, first.finish_reason, first.client_gone],
    ["mine", "POST /v1/completions", 200, "tiny", false, "length", false],
  );
  assertEquals([first.completion_tokens, first.cached_tokens], [10, 0]);
  assert(first.prompt_tokens > 1 && 0 <= first.queue_ms && first.queue_ms <= first.ttft_ms);
  assert(first.ttft_ms <= first.total_ms);
  assertEquals([second.status, second.error, second.model], [400, "invalid_value", undefined]);
  assertEquals([third.stream, third.client_gone, third.finish_reason], [true, true, "cancelled"]);
});

Deno.test("server.ts says where the time of its start went with --startup-report", needed, async () => {
  await using server = await startServer(["--startup-report", "--log-level=off"]);
  await until(() => /^ {2}first token /m.test(server.said()), "its first token came");
  const { stderr } = await server.stop("SIGTERM");
  const times = [...stderr.matchAll(/^ {2}(\S.*?) +([\d.]+) ms +([\d.]+) ms$/gm)];
  assertEquals(times.map(([, name]) => name), [
    "runtime and program loaded",
    "options read, port taken",
    "configuration and tokenizer read",
    "weights loaded, engine planned",
    "ready",
    "first token",
  ]);
  const total = times.map(([, , , sum]) => Number(sum));
  assertEquals(total, total.toSorted((a, b) => a - b));
});
