/**
 * What the server costs: tokens streamed per second over 64 connections, with a native step that computes
 * nothing; how the health route answers meanwhile; and the time to the first byte of an idle server. Server
 * and clients share the machine.
 *
 * @module
 */
import { quantile, type Report } from "../report.ts";
import { Connection, requestBytes } from "./http_connection.ts";
import type { Flood } from "./http_flood.ts";
import { type BenchServer, cpuTime, startServer } from "./http_server.ts";

const CONNECTIONS = 64;
const REQUESTS = 30;
const TOKENS = 1000;
/** Tokens a second at which the health route is asked besides: what two cores have to manage. */
const PACE = 150_000;
const IDLE_REQUESTS = 3000, WARM_UP = 1000;

/**
 * What a machine for the clients would take from nobody: here they get what the server leaves of the processors,
 * nearly. So many steps of niceness above the server's.
 */
const CLIENT_NICENESS = 5;

/** `connections` clients in a process of their own, each asking `requests` times; `rate`: tokens a second. */
async function clients(
  address: string,
  connections: number,
  requests: number,
  rate?: number,
): Promise<Flood> {
  const { success, stdout } = await new Deno.Command("nice", {
    args: ["-n", String(CLIENT_NICENESS), Deno.execPath(), "run", "--allow-net"]
      .concat(
        `${import.meta.dirname}/http_flood.ts`,
        address,
        String(connections),
        String(requests),
        String(TOKENS),
        ...(rate === undefined ? [] : [String(rate)]),
      ),
    stderr: "inherit",
  }).output();
  if (!success) throw new Error("the clients failed");
  return JSON.parse(new TextDecoder().decode(stdout));
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

async function load(server: BenchServer, control: BenchServer, rate?: number) {
  const { address, pid } = server;
  const health = probe(address, control.address);
  const before = cpuTime(pid);
  const { tokens, events, seconds } = await clients(address, CONNECTIONS, REQUESTS, rate);
  const cpu = cpuTime(pid) - before;
  const [times, floor] = await health();
  return {
    clients: rate === undefined
      ? "as fast as they can"
      : `${rate.toLocaleString("en-US")} tokens/s asked for`,
    "tokens/s": tokens / seconds,
    "events/s": events / seconds,
    "server CPU us/token": cpu * 1000 / tokens,
    "health p50 ms": quantile(times, 0.5),
    "health p99 ms": quantile(times, 0.99),
    "idle p50 ms": quantile(floor, 0.5),
    "idle p99 ms": quantile(floor, 0.99),
  };
}

async function flood(server: BenchServer, control: BenchServer): Promise<Report> {
  await clients(server.address, 8, 20);
  return {
    suite: `streaming over ${CONNECTIONS} connections, ${REQUESTS} answers of ${TOKENS} tokens each`,
    rows: [await load(server, control), await load(server, control, PACE)],
    notes: [
      `server, clients and prober are processes that share the machine's cores; the clients' has niceness +${CLIENT_NICENESS};`,
      "idle: the health of a second server meanwhile that has nothing to do: what the machine itself adds;",
      "tokens that are ready together leave in one event",
    ],
  };
}

/** Milliseconds to the first byte of a stream, and of the health route for comparison. */
async function idle({ address }: BenchServer): Promise<Report> {
  const streamed: number[] = [], plain: number[] = [];
  using connection = await Connection.open(address);
  const stream = requestBytes("POST", "/v1/completions", {
    prompt: "Once upon a time",
    max_tokens: 1,
    ignore_eos: true,
    stream: true,
  });
  const health = requestBytes("GET", "/health");
  for (let i = 0; i < IDLE_REQUESTS + WARM_UP; i++) {
    const first = await connection.ask(stream), other = await connection.ask(health);
    if (i < WARM_UP) continue;
    streamed.push(first);
    plain.push(other);
  }
  const row = (name: string, times: number[]) => ({
    request: name,
    "p50 ms": quantile(times, 0.5),
    "p99 ms": quantile(times, 0.99),
  });
  return {
    suite: "time to the first byte, one request at a time",
    rows: [
      row("GET /health, first byte", plain),
      row("POST /v1/completions, first byte", streamed),
      {
        request: "difference: queue to first byte",
        "p50 ms": quantile(streamed, 0.5) - quantile(plain, 0.5),
        "p99 ms": quantile(streamed, 0.99) - quantile(plain, 0.99),
      },
    ],
    notes: ["both include the client's own work and the way through the socket, on the same cores"],
  };
}

/** Runs the suite. */
export async function run(): Promise<Report[]> {
  await using server = await startServer([`--slots=${CONNECTIONS}`]);
  await using control = await startServer(["--slots=1", "--max-context=64"]);
  return [await flood(server, control), await idle(server)];
}
