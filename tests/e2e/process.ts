/**
 * The server as its users start it: scripts/serve.sh in a process of its own.
 *
 * @module
 */
import { MODEL, ROOT } from "./service.ts";

/** A server process that has said that it listens. */
export interface Process extends AsyncDisposable {
  /** The line at start. */
  line: string;
  /** Without a slash at its end. */
  url: string;
  child: Deno.ChildProcess;
  /** What it has written to standard error so far. */
  said(): string;
  /** Ends the process with a signal, and gives its exit code and what it wrote to standard error. */
  stop(signal: Deno.Signal): Promise<{ code: number; stderr: string }>;
}

/** What a process that ended by itself has left. */
export interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

function command(flags: readonly string[], environment: Record<string, string>): Deno.Command {
  return new Deno.Command("bash", {
    args: [`${ROOT}/scripts/serve.sh`, ...flags],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    env: { MODEL, HOST: "127.0.0.1", PORT: "0", ARGS: "", NO_COLOR: "1", ...environment },
  });
}

/** Runs scripts/serve.sh to its end. */
export async function runServer(
  flags: readonly string[],
  environment: Record<string, string> = {},
): Promise<Ended> {
  const { code, stdout, stderr } = await command(flags, environment).output();
  return { code, stdout: new TextDecoder().decode(stdout), stderr: new TextDecoder().decode(stderr) };
}

/** Starts a server on a free port and waits for its first line. */
export async function startServer(
  flags: readonly string[] = [],
  environment: Record<string, string> = {},
): Promise<Process> {
  const child = command(flags, environment).spawn();
  let said = "";
  const stderr = (async () => {
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) said += text;
    return said;
  })();
  const line = await firstLine(child.stdout);
  const url = /https?:\/\/[\w.:[\]]+/.exec(line)?.[0];
  if (url === undefined) throw new Error(`no address in ${JSON.stringify(line)}: ${await stderr}`);
  const stop: Process["stop"] = async (signal) => {
    try {
      child.kill(signal);
    } catch {
      // It has ended by itself: its code says so.
    }
    return { code: (await child.status).code, stderr: await stderr };
  };
  return {
    line,
    url,
    child,
    said: () => said,
    stop,
    [Symbol.asyncDispose]: async () => void await stop("SIGKILL"),
  };
}

async function firstLine(stdout: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<string> {
  const reader = stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) break;
    text += value;
  }
  await reader.cancel();
  return text.split("\n")[0]!;
}
