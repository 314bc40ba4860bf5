/**
 * The service: options, engine, HTTP API and signals put together.
 *
 *     scripts/serve.sh --help
 *
 * @module
 */

import { createApp } from "./api/app.ts";
import { ApiError } from "./api/errors.ts";
import { createLogger, type Logger, writeStderr } from "./api/log.ts";
import { readArguments } from "./cli/arguments.ts";
import { helpText } from "./cli/help.ts";
import type { ServerOptions } from "./cli/options.ts";
import { describePermissions, readEnvironment } from "./cli/permissions.ts";
import { ENGINE_FAILED, listenError, readyLine, startFailure } from "./cli/startup.ts";
import config from "./deno.json" with { type: "json" };
import { createEngine, type Engine } from "./mod.ts";
import { engineLibraries } from "./runtime/engine.ts";

type Handler = (request: Request) => Response | Promise<Response>;

const root = import.meta.dirname!;

/** How long streams may take to write their last event when the process ends. */
const LAST_WORDS_MS = 1000;

/** What answers while the model is loading: the port is taken first, so that its troubles show at once. */
const loading = new ApiError(503, "The model is still loading.", {
  code: "loading",
  headers: { "retry-after": "1" },
});

async function serve({
  host = "127.0.0.1",
  port = 8000,
  maxBody,
  drainTimeout = 10,
  logLevel = "info",
  model = `${root}/models/tiny`,
  servedModelName,
  lib,
  backend = "auto",
  ...sizes
}: ServerOptions): Promise<void> {
  const log = createLogger(logLevel);
  let handler: Handler = () => loading.toResponse();
  const server = listen(host, port, (request) => handler(request));

  const library = { backend, ...(lib !== undefined && { libraryPath: lib }) };
  const engine = await createEngine({
    ...sizes,
    model,
    ...library,
    ...(servedModelName !== undefined && { modelId: servedModelName }),
  });
  handler = createApp(engine, { log, ...(maxBody !== undefined && { maxBodyBytes: maxBody }) }).fetch;
  stopOnSignals(server, engine, drainTimeout, log);
  stopOnFailure(server, engine, log);

  const permissions = describePermissions({
    address: hostPort(host, port),
    read: [`${root}/runtime`, `${root}/ffi`, model],
    libraries: engineLibraries(library),
    cache: readEnvironment("HF_HUB_CACHE"),
  }, root);
  log.info(`backend ${engine.backend}: ${engine.backendReason}`);
  const url = `http://${hostPort(host, server.addr.port)}`;
  const line = readyLine(engine, { version: config.version, url, permissions });
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

function listen(hostname: string, port: number, handler: Handler): Deno.HttpServer<Deno.NetAddr> {
  try {
    return Deno.serve({ hostname, port, onListen: () => {} }, handler);
  } catch (error) {
    throw listenError(error, hostPort(hostname, port));
  }
}

function hostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** SIGINT and SIGTERM: takes no more requests, lets running ones finish for a while, ends the rest, exits. */
function stopOnSignals(server: Deno.HttpServer, engine: Engine, drainSeconds: number, log: Logger): void {
  let cancel: (() => void) | null = null;
  const stop = async () => {
    if (cancel !== null) return cancel();
    const impatient = new Promise<void>((resolve) => cancel = resolve);
    const patience = new Promise<void>((resolve) => setTimeout(resolve, drainSeconds * 1000));
    const drained = server.shutdown();
    const { running, waiting } = engine.stats();
    log.info(`stopping: ${running + waiting} requests have ${drainSeconds} s to finish`);
    await Promise.race([drained, patience, impatient]);
    await engine.close();
    // Streams still owe their readers a last event.
    await Promise.race([drained, new Promise((resolve) => setTimeout(resolve, LAST_WORDS_MS))]);
    Deno.exit(0);
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, stop);
}

/** An engine that breaks takes the process with it, once its clients have heard: a supervisor starts another. */
function stopOnFailure(server: Deno.HttpServer, engine: Engine, log: Logger): void {
  engine.failed.then(async (error) => {
    log.error(`${error.message}; the process ends with ${ENGINE_FAILED}`);
    await Promise.race([server.shutdown(), new Promise((resolve) => setTimeout(resolve, LAST_WORDS_MS))]);
    Deno.exit(ENGINE_FAILED);
  });
}

async function main(): Promise<void> {
  const command = readArguments(Deno.args, readEnvironment);
  if (command.kind === "serve") return await serve(command.options);
  const text = command.kind === "help" ? helpText(config.version) : `kvrm ${config.version}\n`;
  Deno.stdout.writeSync(new TextEncoder().encode(text));
}

if (import.meta.main) {
  try {
    await main();
  } catch (error) {
    const { line, exitCode } = startFailure(error);
    writeStderr(`kvrm: ${line}\n`);
    Deno.exit(exitCode);
  }
}
