/**
 * What the server costs: tokens streamed per second over 64 connections, with a native step that computes
 * nothing; and how the health route answers meanwhile. Server and clients share the machine.
 *
 * @module
 */
import { quantile, type Report } from "../report.ts";

const CONNECTIONS = 64;
const SECONDS = 5;
const TOKENS = 1000;
const ROOT = `${import.meta.dirname}/../..`;

async function startServer(): Promise<{ address: string; stop: () => Promise<void> }> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--allow-all",
      `${ROOT}/server.ts`,
      "--port=0",
      "--noop",
      `--slots=${CONNECTIONS}`,
      "--log-level=info",
    ],
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let line = "";
  const reader = child.stdout.getReader();
  while (!line.includes("http://")) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the server ended before it listened");
    line += new TextDecoder().decode(value);
  }
  void (async () => {
    while (!(await reader.read()).done);
  })();
  const address = /http:\/\/[^\s/]+/.exec(line)![0];
  return {
    address,
    stop: async () => {
      child.kill("SIGTERM");
      await child.status;
    },
  };
}

/** Streams completions one after another until `until`; returns the tokens seen. */
async function client(address: string, until: number): Promise<number> {
  let events = 0;
  while (performance.now() < until) {
    const response = await fetch(`${address}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        prompt: "Once upon a time",
        max_tokens: TOKENS,
        stream: true,
        ignore_eos: true,
      }),
    });
    if (!response.ok) throw new Error(`the server answered ${response.status}: ${await response.text()}`);
    for await (const bytes of response.body!) {
      // Each event ends with an empty line.
      for (let i = bytes.indexOf(10); i >= 0; i = bytes.indexOf(10, i + 2)) if (bytes[i + 1] === 10) events++;
      if (performance.now() >= until) break;
    }
  }
  return events;
}

async function health(address: string, until: number, times: number[]): Promise<void> {
  while (performance.now() < until) {
    const start = performance.now();
    await (await fetch(`${address}/health`)).text();
    times.push(performance.now() - start);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Runs the suite. */
export async function run(): Promise<Report[]> {
  const server = await startServer();
  try {
    await client(server.address, performance.now() + 1000);
    const start = performance.now();
    const until = start + SECONDS * 1000;
    const times: number[] = [];
    const clients = Array.from({ length: CONNECTIONS }, () => client(server.address, until));
    const [tokens] = await Promise.all([Promise.all(clients), health(server.address, until, times)]);
    const seconds = (performance.now() - start) / 1000;
    const total = tokens.reduce((sum, n) => sum + n, 0);
    return [{
      suite: `streaming over ${CONNECTIONS} connections, clients on the same machine`,
      rows: [{
        "tokens/s": total / seconds,
        "health p50 ms": quantile(times, 0.5),
        "health p99 ms": quantile(times, 0.99),
      }],
      notes: ["server, engine loop and all clients share the machine's cores"],
    }];
  } finally {
    await server.stop();
  }
}
