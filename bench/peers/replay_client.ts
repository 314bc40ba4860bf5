/**
 * The clients of a replay, in a process of their own: a ReplayPlan as JSON on standard input, ReplayedRequest[] as JSON
 * on standard output. It looks at no more of an event than it has to, as it shares the machine with the server.
 *
 * @module
 */
import type { ReplayedRequest, ReplayPlan } from "./replay.ts";
import { EventReader } from "./events.ts";

const plan: ReplayPlan = JSON.parse(await new Response(Deno.stdin.readable).text());
const url = `${plan.address}/v1/completions`;
const bodies = plan.requests.map(({ prompt, maxTokens }) =>
  new TextEncoder().encode(JSON.stringify({
    model: plan.model,
    prompt,
    max_tokens: maxTokens,
    temperature: 0,
    ignore_eos: true,
    stream: true,
    stream_options: { include_usage: true },
  }))
);

const start = performance.now();
const now = () => performance.now() - start;
const giveUp = AbortSignal.timeout(plan.limitMs);

async function send(index: number): Promise<ReplayedRequest> {
  const { arrivalMs, maxTokens } = plan.requests[index]!;
  // A timer counts whole milliseconds, and drops the rest: never before the time.
  await new Promise((resolve) => setTimeout(resolve, Math.ceil(arrivalMs - now())));
  const result: ReplayedRequest = { arrivalMs, sentMs: now(), eventMs: [], tokens: 0 };
  try {
    const headers = { "content-type": "application/json" };
    const response = await fetch(url, { method: "POST", headers, body: bodies[index]!, signal: giveUp });
    if (!response.ok) throw new Error(`${response.status}: ${(await response.text()).slice(0, 200)}`);
    const events = new EventReader();
    for await (const bytes of response.body!) {
      const time = now();
      for (let count = events.push(bytes); count > 0; count--) result.eventMs.push(time);
    }
    result.tokens = events.completionTokens ?? result.eventMs.length;
    if (result.eventMs.length === 0) throw new Error("the stream had no text");
    if (result.tokens !== maxTokens) throw new Error(`got ${result.tokens} tokens, wanted ${maxTokens}`);
  } catch (error) {
    result.error = (error as Error).message;
  }
  return result;
}

const results = await Promise.all(plan.requests.map((_, i) => send(i)));
Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(results)));
