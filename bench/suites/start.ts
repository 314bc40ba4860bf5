/**
 * Cold start: from the start of the process to the first token, phase by phase, of a server with the embedded model
 * whose files are in the page cache. Beside it the floor: a Deno that starts, listens and does nothing.
 *
 * @module
 */
import { median, quantile, type Report, type Rows } from "../report.ts";

const ROOT = `${import.meta.dirname}/../..`;
const STARTS = Number(Deno.env.get("KVRM_BENCH_STARTS") ?? 15);
const PHASE = /^ {2}(.+?) +([\d.]+) ms +([\d.]+) ms$/gm;

/** What stands in for the server: as little as answers. */
const FLOOR = `Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, () => new Response(""));
Deno.stdout.writeSync(new TextEncoder().encode("listens\\n"));`;

interface Start {
  /** Milliseconds of each phase, in its order. */
  phases: Map<string, number>;
  /** Milliseconds from the start to the first line of the server, and to the first byte of a first answer's text. */
  line: number;
  answer: number;
}

function spawn(args: string[], environment: Record<string, string>) {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--allow-all", "--cached-only", ...args],
    env: environment,
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function firstLine(child: Deno.ChildProcess): Promise<string> {
  let text = "";
  const reader = child.stdout.getReader();
  while (!text.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the server ended before it listened");
    text += new TextDecoder().decode(value);
  }
  reader.releaseLock();
  return text;
}

async function firstText(url: string): Promise<void> {
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt: "Once upon a time", stream: true, max_tokens: 4, ignore_eos: true }),
  });
  const reader = response.body!.getReader();
  await reader.read();
  await reader.cancel();
}

async function start(): Promise<Start> {
  const began = performance.timeOrigin + performance.now();
  const since = () => performance.timeOrigin + performance.now() - began;
  const child = spawn([`${ROOT}/server.ts`, "--port=0", "--log-level=warn", "--startup-report"], {
    KVRM_STARTED: String(Math.round(began * 1000)),
    KVRM_BACKEND: "cpu",
  });
  const stderr = new Response(child.stderr).text();
  const url = /http:\/\/[\w.:]+/.exec(await firstLine(child))![0];
  const line = since();
  await firstText(url);
  const answer = since();
  child.kill("SIGTERM");
  await child.stdout.cancel();
  await child.status;
  const phases = new Map<string, number>();
  for (const [, name, own] of (await stderr).matchAll(PHASE)) phases.set(name!, Number(own));
  return { phases, line, answer };
}

/** Milliseconds until a Deno listens that has nothing else to do. */
async function floor(script: string): Promise<number> {
  const began = performance.now();
  const child = spawn([script], {});
  await firstLine(child);
  const time = performance.now() - began;
  child.kill("SIGKILL");
  await Promise.all([child.stdout.cancel(), child.stderr.cancel(), child.status]);
  return time;
}

/** Runs the suite. */
export async function run(): Promise<Report[]> {
  const script = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(script, FLOOR);
  const starts: Start[] = [], floors: number[] = [];
  for (let i = 0; i <= STARTS; i++) {
    const one = await start();
    const least = await floor(script);
    if (i === 0) continue; // fills the caches
    starts.push(one);
    floors.push(least);
  }
  await Deno.remove(script);
  const row = (name: string, times: number[]): Rows[number] => ({
    phase: name,
    "median ms": median(times),
    "best ms": Math.min(...times),
    "p90 ms": quantile(times, 0.9),
  });
  const rows = [...starts[0]!.phases.keys()].map((name) =>
    row(name, starts.map(({ phases }) => phases.get(name) ?? NaN))
  );
  rows.push(
    row(
      "all: from the start to the first token",
      starts.map(({ phases }) => [...phases.values()].reduce((a, b) => a + b)),
    ),
    row("seen by a client: the line that it listens", starts.map(({ line }) => line)),
    row("seen by a client: the first text of a stream", starts.map(({ answer }) => answer)),
    row("the floor: a Deno that listens and has nothing to do", floors),
  );
  return [{
    suite: `cold start of models/tiny, ${STARTS} starts, files in the page cache`,
    rows,
    notes: ["the client and the server share the machine's cores"],
  }];
}
