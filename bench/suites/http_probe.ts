/**
 * Asks servers for their health in turn, from a process that does nothing else: `http_probe.ts ADDRESS...`. Goes
 * on until its input ends, then prints the times of each server in milliseconds as JSON.
 *
 * @module
 */

const times: number[][] = Deno.args.map(() => []);
let done = false;
void (async () => {
  for await (const _ of Deno.stdin.readable);
  done = true;
})();
while (!done) {
  for (const [i, address] of Deno.args.entries()) {
    const start = performance.now();
    await (await fetch(`${address}/health`)).text();
    times[i]!.push(performance.now() - start);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(times)));
