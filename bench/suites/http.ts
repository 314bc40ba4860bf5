/**
 * What the server costs: tokens streamed per second over 64 connections, with a native step that computes
 * nothing; how the health route answers meanwhile; and the time to the first byte of an idle server. Server
 * and clients share the machine.
 *
 * @module
 */
import { quantile, type Report } from "../report.ts";
import { type BenchServer, cpuTime, startServer } from "./http_server.ts";

const CONNECTIONS = 64;
const REQUESTS = 30;
const TOKENS = 1000;
const IDLE_REQUESTS = 500;

function ask(address: string, body: Record<string, unknown>): Promise<Response> {
  return fetch(`${address}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt: "Once upon a time", stream: true, ignore_eos: true, ...body }),
  });
}

/** Streams `requests` completions one after another; returns the tokens by their usage, and the events seen. */
async function client(address: string, requests: number): Promise<{ tokens: number; events: number }> {
  const total = { tokens: 0, events: 0 };
  for (let i = 0; i < requests; i++) {
    const response = await ask(address, { max_tokens: TOKENS, stream_options: { include_usage: true } });
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

/** Times of the servers' health routes, in milliseconds, until the result is called. */
function probe(...addresses: string[]): () => Promise<[number[], number[]]> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-net", `${import.meta.dirname}/http_probe.ts`, ...addresses],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  return async () => {
    await child.stdin.close();
    return JSON.parse(new TextDecoder().decode((await child.output()).stdout));
  };
}

async function flood({ address, pid }: BenchServer, control: BenchServer): Promise<Report> {
  await Promise.all(Array.from({ length: 8 }, () => client(address, 4)));
  const health = probe(address, control.address);
  const before = cpuTime(pid);
  const start = performance.now();
  const totals = await Promise.all(Array.from({ length: CONNECTIONS }, () => client(address, REQUESTS)));
  const seconds = (performance.now() - start) / 1000;
  const cpu = cpuTime(pid) - before;
  const [times, floor] = await health();
  const sum = (key: "tokens" | "events") => totals.reduce((total, one) => total + one[key], 0);
  return {
    suite: `streaming over ${CONNECTIONS} connections, ${REQUESTS} answers of ${TOKENS} tokens each`,
    rows: [{
      "tokens/s": sum("tokens") / seconds,
      "events/s": sum("events") / seconds,
      "server CPU us/token": cpu * 1000 / sum("tokens"),
      "health p50 ms": quantile(times, 0.5),
      "health p99 ms": quantile(times, 0.99),
      "idle p50 ms": quantile(floor, 0.5),
      "idle p99 ms": quantile(floor, 0.99),
    }],
    notes: [
      "server, engine loop, all clients and the prober, a process of its own, share the machine's cores;",
      "idle: the health of a second server meanwhile that has nothing to do: what the machine itself adds;",
      "tokens that are ready together leave in one event",
    ],
  };
}

/** Milliseconds to the first byte of a stream, and of the health route for comparison. */
async function idle({ address }: BenchServer): Promise<Report> {
  const streamed: number[] = [], plain: number[] = [];
  for (let i = 0; i < IDLE_REQUESTS + 50; i++) {
    const start = performance.now();
    const response = await ask(address, { max_tokens: 1 });
    const reader = response.body!.getReader();
    await reader.read();
    const first = performance.now() - start;
    while (!(await reader.read()).done);
    const again = performance.now();
    await (await fetch(`${address}/health`)).text();
    if (i < 50) continue;
    streamed.push(first);
    plain.push(performance.now() - again);
  }
  const row = (name: string, times: number[]) => ({
    request: name,
    "p50 ms": quantile(times, 0.5),
    "p99 ms": quantile(times, 0.99),
  });
  return {
    suite: "time to the first byte, one request at a time",
    rows: [
      row("GET /health, the whole answer", plain),
      row("POST /v1/completions, first byte", streamed),
      {
        request: "difference: queue to first byte",
        "p50 ms": quantile(streamed, 0.5) - quantile(plain, 0.5),
        "p99 ms": quantile(streamed, 0.99) - quantile(plain, 0.99),
      },
    ],
    notes: ["both include the client's own work and the way through the socket"],
  };
}

/** Runs the suite. */
export async function run(): Promise<Report[]> {
  await using server = await startServer([`--slots=${CONNECTIONS}`]);
  await using control = await startServer(["--slots=1", "--max-context=64"]);
  return [await flood(server, control), await idle(server)];
}
