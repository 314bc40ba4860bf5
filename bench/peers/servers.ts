/**
 * Recipes: how each server is started with one model, so many slots and one context length, and stopped again. What is
 * already running is measured by its address.
 *
 * @module
 */
import { freePort } from "./process.ts";

const ROOT = `${import.meta.dirname}/../..`;

/** What all servers of a comparison get. */
export interface ServerSetup {
  /** A GGUF file, or what the server takes for a model. */
  model: string;
  slots: number;
  /** Tokens of prompt and answer, of each slot. */
  context: number;
  threads: number;
}

/** How a server is started. */
export interface Recipe {
  /** In tables. */
  name: string;
  command(
    setup: ServerSetup,
    port: number,
  ): { program: string; args: string[]; env?: Record<string, string> };
}

/** A server that answers. */
export interface PeerServer extends AsyncDisposable {
  /** Without a slash at its end. */
  address: string;
  /** Milliseconds from starting the process to the first text of an answer; NaN for one that ran before. */
  firstTextMs: number;
  /** What it wrote to standard error, once it has ended. */
  log: Promise<string>;
}

/** This repository's server. */
export function kvrm(flags: readonly string[] = []): Recipe {
  return {
    name: "kvrm",
    command: ({ model, slots, context, threads }, port) => ({
      program: Deno.execPath(),
      args: [
        ...["run", "--no-prompt", "--allow-all", "--cached-only", `${ROOT}/server.ts`],
        ...[`--model=${model}`, `--port=${port}`, `--slots=${slots}`, `--max-context=${context}`],
        ...[`--threads=${threads}`, "--backend=cpu", "--log-level=warn", ...flags],
      ],
    }),
  };
}

/** llama.cpp's server or a fork's; `flags` as `findLlamaCpp()` has them. Its context is that of all slots together. */
export function llamaServer(program: string, flags: readonly string[]): Recipe {
  return {
    name: "llama.cpp",
    command: ({ model, slots, context }, port) => ({
      program,
      args: [
        ...["-m", model, "--port", String(port), "--host", "127.0.0.1"],
        ...["-c", String(slots * context), "-np", String(slots), ...flags],
      ],
    }),
  };
}

/** vLLM, where it is installed; it reads GGUF files too. */
export function vllm(flags: readonly string[] = []): Recipe {
  return {
    name: "vllm",
    command: ({ model, slots, context }, port) => ({
      program: "vllm",
      args: [
        ...["serve", model, "--host", "127.0.0.1", "--port", String(port)],
        ...["--max-num-seqs", String(slots), "--max-model-len", String(context), ...flags],
      ],
    }),
  };
}

/** The name that a server gives its model. @throws {Error} when it does not say */
export async function modelName(address: string): Promise<string> {
  const response = await fetch(`${address}/v1/models`);
  const name = (await response.json() as { data?: { id?: string }[] }).data?.[0]?.id;
  if (typeof name !== "string") throw new Error(`asking ${address} for its models: it names none`);
  return name;
}

/** Milliseconds between attempts to reach a server that starts. */
const RETRY_MS = 2;

/** Asks until it answers, and waits for the first text. @throws {Error} when `ended` says that nobody will */
async function firstText(address: string, ended: () => string | null): Promise<void> {
  // Without a model: whichever the server has.
  const body = JSON.stringify({
    prompt: [300, 400, 500, 600],
    max_tokens: 1,
    temperature: 0,
    ignore_eos: true,
  });
  for (;;) {
    const why = ended();
    if (why !== null) throw new Error(why);
    try {
      const response = await fetch(`${address}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body,
      });
      const text = await response.text();
      if (response.ok) return;
      // While it loads its model.
      if (response.status !== 503) {
        throw new Error(`asking ${address}: ${response.status} ${text.slice(0, 300)}`);
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/** Starts a server and waits for the first text of an answer. @throws {Error} when it ends before */
export async function startPeer(recipe: Recipe, setup: ServerSetup): Promise<PeerServer> {
  const port = freePort();
  const { program, args, env } = recipe.command(setup, port);
  const began = performance.timeOrigin + performance.now();
  const child = new Deno.Command(program, {
    args,
    env: { ...env, KVRM_STARTED: String(Math.round(began * 1000)) },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const log = new Response(child.stderr).text();
  let status: Deno.CommandStatus | null = null;
  void child.status.then((one) => status = one);
  const address = `http://127.0.0.1:${port}`;
  const stop = async () => {
    if (status === null) child.kill("SIGTERM");
    await child.status;
  };
  try {
    const ended = () =>
      status === null
        ? null
        : `starting ${recipe.name}: ${program} ${args.join(" ")} ended with ${status.code}`;
    await firstText(address, ended);
  } catch (error) {
    await stop();
    throw new Error(`${(error as Error).message}\n${(await log).slice(-2000)}`, { cause: error });
  }
  const firstTextMs = performance.timeOrigin + performance.now() - began;
  return { address, firstTextMs, log, [Symbol.asyncDispose]: stop };
}
