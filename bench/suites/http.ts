/**
 * What the server costs: tokens streamed per second over 64 connections, with a native step that computes
 * nothing; and how the health route answers meanwhile. Server and clients share the machine.
 *
 * @module
 */
import { quantile, type Report } from "../report.ts";

const CONNECTIONS = 64;
const REQUESTS = 10;
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
  const address = /http:\/\/[\w.:]+/.exec(line)![0];
  return {
    address,
    stop: async () => {
      child.kill("SIGTERM");
      await child.status;
    },
  };
}

/** Streams `requests` completions one after another; returns the tokens by their usage, and the events seen. */
async function client(address: string, requests: number): Promise<{ tokens: number; events: number }> {
  const total = { tokens: 0, events: 0 };
  for (let i = 0; i < requests; i++) {
    const response = await fetch(`${address}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        prompt: "Once upon a time",
        max_tokens: TOKENS,
        stream: true,
        stream_options: { include_usage: true },
        ignore_eos: true,
      }),
    });
    if (!response.ok) throw new Error(`the server answered ${response.status}: ${await response.text()}`);
    let tail = "";
    const decoder = new TextDecoder();
    for await (const bytes of response.body!) {
      // Each event ends with an empty line.
      for (let i = bytes.indexOf(10); i >= 0; i = bytes.indexOf(10, i + 2)) {
        if (bytes[i + 1] === 10) total.events++;
      }
      tail = (tail + decoder.decode(bytes.subarray(-400))).slice(-400);
    }
    total.tokens += Number(/"completion_tokens":(\d+)/.exec(tail)?.[1] ?? NaN);
  }
  return total;
}

async function health(address: string, done: () => boolean, times: number[]): Promise<void> {
  while (!done()) {
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
    await Promise.all(Array.from({ length: 8 }, () => client(server.address, 2)));
    const start = performance.now();
    const times: number[] = [];
    let finished = false;
    const clients = Array.from({ length: CONNECTIONS }, () => client(server.address, REQUESTS));
    const load = Promise.all(clients).finally(() => finished = true);
    const [totals] = await Promise.all([load, health(server.address, () => finished, times)]);
    const seconds = (performance.now() - start) / 1000;
    const sum = (key: "tokens" | "events") => totals.reduce((total, one) => total + one[key], 0);
    return [{
      suite: `streaming over ${CONNECTIONS} connections, ${REQUESTS} answers of ${TOKENS} tokens each`,
      rows: [{
        "tokens/s": sum("tokens") / seconds,
        "events/s": sum("events") / seconds,
        "health p50 ms": quantile(times, 0.5),
        "health p99 ms": quantile(times, 0.99),
      }],
      notes: [
        "server, engine loop and all clients share the machine's cores; tokens that are ready together",
        "leave in one event",
      ],
    }];
  } finally {
    await server.stop();
  }
}
