/**
 * Programs that the suite runs.
 *
 * @module
 */

/** What `program` writes to standard output, given `input`. @throws {Error} when it fails, with the end of what it said */
export async function outputOf(program: string, args: readonly string[], input = ""): Promise<string> {
  const child = new Deno.Command(program, {
    args: [...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const output = child.output();
  const writer = child.stdin.getWriter();
  try {
    await writer.write(new TextEncoder().encode(input));
    await writer.close();
  } catch (error) {
    // It ended without reading all of it: its own status says why.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
  const { code, stdout, stderr } = await output;
  const text = new TextDecoder().decode(stdout);
  if (code !== 0) {
    const said = (text + new TextDecoder().decode(stderr)).slice(-2000);
    throw new Error(`running ${program} ${args.join(" ")}: it ended with ${code}\n${said}`);
  }
  return text;
}

/** A port of this machine that nobody listens on. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
