/**
 * What telemetry costs per request: off, on for every request, and on with one in twenty sampled. Short streamed
 * requests over a few connections; the native step computes nothing. Variants take turns, so that what else the
 * machine does falls on all of them; processor time is the server's own.
 *
 * @module
 */
import { createLogger } from "../../api/log.ts";
import { RequestRecord } from "../../api/telemetry/record.ts";
import { median, type Report } from "../report.ts";
import { type BenchServer, cpuTime, startServer } from "./http_server.ts";

const CONNECTIONS = 8;
const REQUESTS = 400;
const ROUNDS = 12;
const TOKENS = 32;

interface Variant {
  name: string;
  server: BenchServer;
  /** Of each round. */
  rates: number[];
  cpuMs: number[];
}

async function load(address: string, requests: number): Promise<void> {
  let left = requests;
  const body = JSON.stringify({
    prompt: "Once upon a time",
    max_tokens: TOKENS,
    stream: true,
    ignore_eos: true,
  });
  await Promise.all(Array.from({ length: CONNECTIONS }, async () => {
    while (left-- > 0) {
      const response = await fetch(`${address}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body,
      });
      await response.bytes();
    }
  }));
}

async function round(variant: Variant): Promise<void> {
  const { server, rates, cpuMs } = variant;
  const before = cpuTime(server.pid);
  const start = performance.now();
  await load(server.address, REQUESTS);
  rates.push(REQUESTS / ((performance.now() - start) / 1000));
  cpuMs.push((cpuTime(server.pid) - before) / REQUESTS);
}

/** Microseconds that the record of a request takes, which is there whether telemetry is on or off. */
function recordCost(): number {
  const log = createLogger("off");
  const count = 20_000;
  const requests = Array.from({ length: count }, () => new Request("http://localhost/v1/completions"));
  for (const request of requests) void request.signal;
  const start = performance.now();
  for (const request of requests) {
    const record = new RequestRecord(request, "id", "POST /v1/completions", (ended) => {
      log.info("request", ended.logFields("model"));
    });
    record.begin([{}], [], record.started);
    record.end();
  }
  return (performance.now() - start) / count * 1000;
}

async function startSink(): Promise<{ address: string; [Symbol.dispose](): void }> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-net", `${import.meta.dirname}/telemetry_sink.ts`],
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  return { address: new TextDecoder().decode(value).trim(), [Symbol.dispose]: () => child.kill("SIGKILL") };
}

/** Runs the suite. */
export async function run(): Promise<Report[]> {
  using sink = await startSink();
  const on = {
    OTEL_DENO: "true",
    OTEL_DENO_CONSOLE: "ignore",
    OTEL_EXPORTER_OTLP_ENDPOINT: sink.address,
    OTEL_EXPORTER_OTLP_TIMEOUT: "2000",
  };
  const ratio = { OTEL_TRACES_SAMPLER: "parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG: "0.05" };
  const flags = [`--slots=${CONNECTIONS}`];
  await using off = await startServer(flags);
  await using all = await startServer(flags, on);
  await using sampled = await startServer(flags, { ...on, ...ratio });
  const variants: Variant[] = [["off", off], ["5% sampled", sampled], ["all sampled", all]].map(
    ([name, server]) => ({ name: name as string, server: server as BenchServer, rates: [], cpuMs: [] }),
  );
  for (const { server } of variants) await load(server.address, 2 * REQUESTS);
  for (let i = 0; i < ROUNDS; i++) {
    for (let k = 0; k < variants.length; k++) await round(variants[(i + k) % variants.length]!);
  }
  const [base] = variants as [Variant];
  // Of rounds that followed one another: what disturbed one disturbed the other too.
  const relative = (values: number[], to: number[]) => median(values.map((value, i) => value / to[i]!));
  const record = recordCost();
  return [{
    suite: `telemetry: streamed requests of ${TOKENS} tokens over ${CONNECTIONS} connections`,
    rows: variants.map(({ name, rates, cpuMs }) => ({
      telemetry: name,
      "requests/s": median(rates),
      "rate, of off": relative(rates, base.rates),
      "server CPU ms/request": median(cpuMs),
      "CPU, of off": relative(cpuMs, base.cpuMs),
    })),
    notes: [
      `medians of ${ROUNDS} rounds of ${REQUESTS} requests; ratios are medians over rounds`,
      `off: the request's record, kept for the log too, takes ${record.toFixed(1)} us, ` +
      `${(record / median(base.cpuMs) / 10).toFixed(2)}% of a request's processor time`,
    ],
  }];
}
