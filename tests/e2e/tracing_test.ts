import { assert, assertEquals } from "@std/assert";
import { OtlpReceiver, type ReceivedSpan } from "./otlp.ts";
import { startServer } from "./process.ts";
import { CANNOT_CHAT, CANNOT_RUN, until } from "./service.ts";

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const CALLER = "b7ad6b7169203331";

function post(url: string, path: string, body: object, trace: string, sampled = true): Promise<Response> {
  return fetch(url + path, {
    method: "POST",
    headers: { "content-type": "application/json", traceparent: `00-${trace}-${CALLER}-0${Number(sampled)}` },
    body: JSON.stringify(body),
  });
}

/** The spans of a trace once `count` have come, by name. */
async function spansOf(receiver: OtlpReceiver, trace: string, count: number) {
  const ours = () => receiver.spans.filter(({ traceId }) => traceId === trace);
  await until(() => ours().length >= count, `${count} spans of ${trace}`);
  assertEquals(ours().length, count);
  return Object.fromEntries(ours().map((span) => [span.name, span]));
}

/** Each lies within the one before it, and they follow one another. */
function assertPhases(parent: ReceivedSpan, phases: ReceivedSpan[]) {
  let time = parent.start - 1;
  for (const phase of phases) {
    assertEquals([phase.traceId, phase.parentSpanId], [parent.traceId, parent.spanId]);
    assert(phase.start >= time - 1 && phase.end >= phase.start && phase.end <= parent.end + 1, phase.name);
    time = phase.end;
  }
}

Deno.test("server.ts gives a streamed chat one trace, from its caller's to the last token", {
  ignore: CANNOT_CHAT,
}, async () => {
  await using receiver = new OtlpReceiver();
  await using server = await startServer([], receiver.environment);
  const response = await post(server.url, "/v1/chat/completions", {
    messages: [{ role: "user", content: "Tell me a story." }],
    max_tokens: 30,
    temperature: 0.5,
    top_p: 0.9,
    seed: 7,
    stop: ["\u0001"],
    stream: true,
    ignore_eos: true,
  }, TRACE);
  const text = await response.text();
  const first = JSON.parse(text.split("\n\n")[0]!.slice("data: ".length));
  const spans = await spansOf(receiver, TRACE, 5);
  const http = spans["POST /v1/chat/completions"]!;
  const chat = spans["chat tiny"]!;
  assertEquals([http.parentSpanId, http.kind, http.attributes["http.route"]], [
    CALLER,
    2,
    "/v1/chat/completions",
  ]);
  assertEquals(http.attributes["http.response.status_code"], "200");
  assertEquals([chat.parentSpanId, chat.kind, chat.statusCode], [http.spanId, 1, 0]);
  const { "gen_ai.usage.input_tokens": input, ...attributes } = chat.attributes;
  assert(Number(input) > 5);
  assertEquals(attributes, {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "kvrm",
    "gen_ai.request.model": "tiny",
    "gen_ai.request.max_tokens": 30,
    "gen_ai.request.temperature": 0.5,
    "gen_ai.request.top_p": 0.9,
    "gen_ai.request.seed": 7,
    "gen_ai.request.stop_sequences": ["\u0001"],
    "gen_ai.request.stream": true,
    "gen_ai.response.id": first.id,
    "gen_ai.response.model": "tiny",
    "gen_ai.response.finish_reasons": ["length"],
    "gen_ai.usage.cache_read.input_tokens": 0,
    "gen_ai.usage.output_tokens": 30,
  });
  assertPhases(chat, [spans["queue"]!, spans["prefill"]!, spans["decode"]!]);
  assertEquals(spans["prefill"]!.attributes["kvrm.prompt_tokens"], Number(input));
  const [event] = chat.events;
  assertEquals([chat.events.length, event!.name], [1, "gen_ai.first_token"]);
  assert(Math.abs(event!.time - spans["decode"]!.start) < 1);
  assert(chat.end - chat.start > 2, "it lasts as long as the stream");
});

Deno.test("server.ts gives a plain completion a trace too, none to one that its caller does not sample", {
  ignore: CANNOT_RUN,
}, async () => {
  await using receiver = new OtlpReceiver();
  await using server = await startServer([], receiver.environment);
  const body = { prompt: ["Once", "One day"], max_tokens: 4, ignore_eos: true };
  const unsampled = "1".repeat(32), refused = "2".repeat(32);
  await (await post(server.url, "/v1/completions", body, unsampled, false)).body?.cancel();
  await (await post(server.url, "/v1/completions", { ...body, n: 0 }, refused)).body?.cancel();
  const answer = await (await post(server.url, "/v1/completions", body, TRACE)).json();
  // Two prompts have three phases each.
  await until(() => receiver.spans.filter(({ traceId }) => traceId === TRACE).length === 8, "its spans");
  const span = receiver.spans.find(({ name }) => name === "text_completion tiny")!;
  assertEquals(span.attributes["gen_ai.operation.name"], "text_completion");
  assertEquals(span.attributes["gen_ai.response.id"], answer.id);
  assertEquals(span.attributes["gen_ai.response.finish_reasons"], ["length", "length"]);
  assertEquals(span.attributes["gen_ai.usage.output_tokens"], 8);
  assertEquals(receiver.spans.filter(({ traceId }) => traceId === unsampled), []);
  const only = await spansOf(receiver, refused, 1);
  assertEquals(only["POST /v1/completions"]!.attributes["http.response.status_code"], "400");
});

Deno.test("server.ts tells of preemptions and of errors in its spans", { ignore: CANNOT_RUN }, async () => {
  await using receiver = new OtlpReceiver();
  // Blocks for a little more than one of the two sequences.
  const flags = ["--kv-memory=3MiB", "--max-context=1024", "--slots=2", "--threads=1"];
  await using server = await startServer(flags, receiver.environment);
  await using hurried = await startServer([...flags, "--request-timeout=0.5"], receiver.environment);
  const body = { prompt: "Once upon a time", max_tokens: 900, ignore_eos: true };
  const traces = ["3".repeat(32), "4".repeat(32)];
  const preempted = traces.map((trace) => post(server.url, "/v1/completions", body, trace));
  for (const response of await Promise.all(preempted)) await response.body?.cancel();
  const late = "5".repeat(32);
  const timeout = await post(hurried.url, "/v1/completions", { ...body, n: 64 }, late);
  assertEquals([timeout.status, (await timeout.json()).error.code], [504, "timeout"]);
  const chats = () => receiver.spans.filter(({ name }) => name === "text_completion tiny");
  await until(() => chats().length === 3, "three requests were traced");
  const names = chats().filter(({ traceId }) => traces.includes(traceId)).flatMap(({ events }) =>
    events.map(({ name }) => name)
  );
  assert(names.includes("kvrm.preemption"), names.join());
  const failed = chats().find(({ traceId }) => traceId === late)!;
  assertEquals([failed.statusCode, failed.attributes["error.type"]], [2, "timeout"]);
});

Deno.test(
  "server.ts reports the conventions' metrics, with buckets below 10 ms",
  { ignore: CANNOT_RUN },
  async () => {
    await using receiver = new OtlpReceiver();
    await using server = await startServer([], receiver.environment);
    await (await post(
      server.url,
      "/v1/completions",
      { prompt: "Once", max_tokens: 9, ignore_eos: true },
      TRACE,
    )).text();
    const ours = () => receiver.points.filter(({ name }) => name.startsWith("gen_ai."));
    await until(() => new Set(ours().map(({ name }) => name)).size === 3, "three metrics");
    for (const name of ["request.duration", "time_to_first_token", "time_per_output_token"]) {
      const point = ours().find((point) => point.name === `gen_ai.server.${name}`)!;
      assertEquals([point.unit, point.count], ["s", 1], name);
      assert(point.sum > 0 && point.bounds.filter((bound) => bound < 0.01).length >= 5, name);
      assertEquals(point.attributes, {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "kvrm",
        "gen_ai.request.model": "tiny",
        "gen_ai.response.model": "tiny",
      });
    }
  },
);

Deno.test("server.ts ends in time though its collector does not answer", { ignore: CANNOT_RUN }, async () => {
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using server = await startServer([], {
    OTEL_DENO: "true",
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${silent.addr.port}`,
  });
  await (await post(server.url, "/v1/completions", { prompt: "Once", max_tokens: 2 }, TRACE)).text();
  const ended = await Promise.race([
    server.stop("SIGTERM"),
    new Promise<null>((resolve) => setTimeout(() => resolve(null), 120_000)),
  ]);
  assertEquals(ended?.code, 0);
});
