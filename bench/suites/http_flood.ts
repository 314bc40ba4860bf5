/**
 * Clients that stream completions as fast as they come, from a process that does nothing else:
 * `http_flood.ts ADDRESS CONNECTIONS REQUESTS TOKENS [RATE]`. Each connection asks `REQUESTS` times for `TOKENS` tokens;
 * with RATE not sooner than makes so many tokens a second of all connections together, which take turns. Prints as JSON
 * what came and in which time.
 *
 * @module
 */

/** Tokens by the usage that the answers tell, and events seen. */
export interface Flood {
  tokens: number;
  events: number;
  seconds: number;
}

const [address, connections, requests, tokens, rate] = Deno.args;
/** Milliseconds between two requests of a connection. */
const period = rate === undefined ? 0 : 1000 * Number(connections) * Number(tokens) / Number(rate);
const total: Flood = { tokens: 0, events: 0, seconds: 0 };

async function client(index: number): Promise<void> {
  for (let i = 0; i < Number(requests); i++) {
    const early = start + (i + index / Number(connections)) * period - performance.now();
    if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
    const response = await fetch(`${address}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        prompt: "Once upon a time",
        max_tokens: Number(tokens),
        ignore_eos: true,
        stream: true,
        stream_options: { include_usage: true },
      }),
    });
    if (!response.ok) throw new Error(`the server answered ${response.status}: ${await response.text()}`);
    let tail = "";
    const decoder = new TextDecoder();
    for await (const bytes of response.body!) {
      // Each event ends with an empty line.
      for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 2)) {
        if (bytes[at + 1] === 10) total.events++;
      }
      tail = (tail + decoder.decode(bytes.subarray(-400))).slice(-400);
    }
    total.tokens += Number(/"completion_tokens":(\d+)/.exec(tail)?.[1] ?? NaN);
  }
}

const start = performance.now();
if (import.meta.main) {
  await Promise.all(Array.from({ length: Number(connections) }, (_, index) => client(index)));
  total.seconds = (performance.now() - start) / 1000;
  Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(total)));
}
