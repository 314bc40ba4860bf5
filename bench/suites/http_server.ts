/**
 * A server in a process of its own, for the suites that measure it from outside.
 *
 * @module
 */

const ROOT = `${import.meta.dirname}/../..`;

/** A server that listens. */
export interface BenchServer extends AsyncDisposable {
  /** Without a slash at its end. */
  address: string;
  pid: number;
}

/** Starts `server.ts` with the embedded model, whose native step computes nothing. */
export async function startServer(
  flags: readonly string[],
  environment: Record<string, string> = {},
): Promise<BenchServer> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", `${ROOT}/server.ts`, "--port=0", "--noop", "--log-level=warn", ...flags],
    env: environment,
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
  return {
    pid: child.pid,
    address: /http:\/\/[\w.:]+/.exec(line)![0],
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.status;
    },
  };
}

/** Milliseconds of processor time that a process has used. */
export function cpuTime(pid: number): number {
  // After the name, which may hold spaces: fields 14 and 15 of proc(5), in ticks of 10 ms.
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
