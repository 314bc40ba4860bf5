/**
 * The program: its commands, and of them the service: options, engine, HTTP API and signals put together.
 *
 *     scripts/serve.sh --help
 *
 * @module
 */

import { ApiError } from "./api/errors.ts";
import { createLogger, type Logger, writeStderr } from "./api/log.ts";
import { ServiceState } from "./api/service_state.ts";
import type { Tracing } from "./api/telemetry/tracing.ts";
import { checkVariables, readArguments } from "./cli/arguments.ts";
import { prepareConfig } from "./cli/config_file.ts";
import { embeddedModel } from "./cli/embedded.ts";
import { Signals } from "./cli/lifecycle.ts";
import type { ServerOptions } from "./cli/options.ts";
import { describePermissions, environmentNames, readEnvironment } from "./cli/permissions.ts";
import { readKeys, readTls } from "./cli/secrets.ts";
import { listenError, readyLine, startFailure } from "./cli/startup.ts";
import { StartupReport } from "./cli/startup_report.ts";
import config from "./deno.json" with { type: "json" };
import { createEngine, type Engine } from "./mod.ts";
import { engineLibraries } from "./runtime/engine.ts";

type Handler = (request: Request) => Response | Promise<Response>;

const root = import.meta.dirname!;

/** What answers while the model is loading: the port is taken first, so that its troubles show at once. */
const loading = new ApiError(503, "The model is still loading.", {
  code: "loading",
  headers: { "retry-after": "1" },
});

async function serve(options: ServerOptions): Promise<void> {
  const { host = "127.0.0.1", port = 8000, drainTimeout = 10, logLevel = "info", logFormat } = options;
  const { model = embeddedModel(root, config.version), servedModelName, lib, backend = "auto" } = options;
  const report = options.startupReport ? new StartupReport(startOfProcess()) : null;
  report?.add("runtime and program loaded");
  const log = createLogger(logLevel, writeStderr, logFormat);
  const tls = readTls(options);
  const app = appOptions(options, log);
  let handler: Handler = async (request) => {
    const { loadingProbe } = await import("./api/routes/health.ts");
    return loadingProbe(request) ?? loading.toResponse();
  };
  const server = listen(host, port, tls, (request) => handler(request));
  report?.add("options read, port taken");
  const signals = new Signals({ server, state: app.state, log, drainTimeout });

  const library = { backend, ...(lib !== undefined && { libraryPath: lib }) };
  let api: Promise<typeof import("./api/app.ts")> | null = null;
  const engine = await createEngine({
    ...options,
    model,
    ...library,
    ...(servedModelName !== undefined && { modelId: servedModelName }),
    onPhase: (name, time) => {
      report?.add(name, time);
      // The API is loaded while the engine's thread loads the model.
      api ??= import("./api/app.ts");
    },
  });
  const { createApp } = await (api ?? import("./api/app.ts"));
  handler = createApp(engine, { ...app, tracing: await tracing() }).fetch;
  signals.engineReady(engine);

  const permissions = describePermissions({
    address: hostPort(host, port),
    read: [`${root}/runtime`, `${root}/ffi`, model],
    libraries: engineLibraries(library),
    cache: readEnvironment("HF_HUB_CACHE"),
  }, root);
  log.info(`backend ${engine.backend}: ${engine.backendReason}`);
  const url = `${tls === null ? "http" : "https"}://${hostPort(host, server.addr.port)}`;
  const line = readyLine(engine, { version: config.version, url, permissions });
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
  if (report !== null) await finishReport(report, engine);
}

function appOptions(options: ServerOptions, log: Logger) {
  return {
    log,
    state: new ServiceState(),
    apiKeys: readKeys(options),
    ...(options.maxBody !== undefined && { maxBodyBytes: options.maxBody }),
    ...(options.metricsWithoutKey !== undefined && { metricsWithoutKey: options.metricsWithoutKey }),
    ...(options.toolCallParser !== undefined && { toolFormat: options.toolCallParser }),
    ...(options.corsOrigin !== undefined && { corsOrigins: options.corsOrigin }),
    ...(options.requestTimeout !== undefined && { requestTimeout: options.requestTimeout }),
  };
}

/** Spans and metrics where Deno's OpenTelemetry is on; its library is loaded only then. */
async function tracing(): Promise<Tracing | null> {
  if (!["1", "true"].includes(readEnvironment("OTEL_DENO") ?? "")) return null;
  const { createTracing } = await import("./api/telemetry/otel.ts");
  return createTracing(config.version);
}

/** Milliseconds since the epoch; scripts/serve.sh tells when it began. */
function startOfProcess(): number {
  const started = Number(readEnvironment("KVRM_STARTED"));
  return started > 0 ? started / 1000 : performance.timeOrigin;
}

/** Lets the model say one token, for the report's last line, and prints it. */
async function finishReport(report: StartupReport, engine: Engine): Promise<void> {
  report.add("ready");
  const generation = engine.generate({ prompt: [0], maxTokens: 1, ignoreEos: true });
  for await (const chunk of generation) if (chunk.finishReason !== null) break;
  report.add("first token", generation.timing.firstToken);
  writeStderr(`startup, each phase and all so far:\n${report.text()}\n`);
}

function listen(
  hostname: string,
  port: number,
  tls: { cert: string; key: string } | null,
  handler: Handler,
): Deno.HttpServer<Deno.NetAddr> {
  try {
    return Deno.serve({ hostname, port, ...tls, onListen: () => {} }, handler);
  } catch (error) {
    throw listenError(error, hostPort(hostname, port));
  }
}

function hostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

async function main(): Promise<void> {
  checkVariables(environmentNames());
  const named = Deno.args.some((arg) => arg.split("=")[0] === "--config");
  if (named || readEnvironment("KVRM_CONFIG")) await prepareConfig();
  const command = readArguments(Deno.args, readEnvironment);
  switch (command.kind) {
    case "serve":
      return await serve(command.options);
    case "run": {
      const { run } = await import("./cli/commands/run.ts");
      return Deno.exit(await run(withModel(command.options), command.prompt));
    }
    case "pull": {
      const { pull } = await import("./cli/commands/pull.ts");
      return await pull(command.model);
    }
    case "bench": {
      const { bench } = await import("./cli/commands/bench.ts");
      return await bench(withModel(command.options));
    }
    case "help": {
      const { helpText } = await import("./cli/help.ts");
      return print(helpText(config.version, command.command));
    }
    case "version":
      return print(`kvrm ${config.version}\n`);
  }
}

function withModel<T extends ServerOptions>(options: T): T & { model: string } {
  return { ...options, model: options.model ?? embeddedModel(root, config.version) };
}

function print(text: string): void {
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
