import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { atRest, CANNOT_RUN, ROOT, type Service, startService, until } from "./service.ts";

const needed = { ignore: CANNOT_RUN };
const DEPLOY = `${ROOT}/deploy`;

let service: Service;
Deno.test.beforeAll(async () => {
  // Blocks for little more than one sequence: there will be preemptions.
  if (!CANNOT_RUN) {
    service = await startService({ slots: 3, kvMemory: 3 << 20, maxContext: 1024, modelId: "org/m" });
  }
});
Deno.test.afterAll(async () => await service?.[Symbol.asyncDispose]());

interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

async function scrape(): Promise<{ text: string; samples: Sample[] }> {
  const response = await fetch(`${service.url}/metrics`);
  assertEquals(response.status, 200);
  assertStringIncludes(response.headers.get("content-type") ?? "", "text/plain; version=0.0.4");
  const text = await response.text();
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  const samples = lines.map((line) => {
    const [, name, list, value] = /^([\w:]+)\{(.*)\} (\S+)$/.exec(line)!;
    const labels = Object.fromEntries(
      [...list!.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, text]) => [key, text]),
    );
    return { name: name!, labels, value: Number(value) };
  });
  return { text, samples };
}

function valueOf(samples: Sample[], name: string, labels: Record<string, string> = {}): number {
  const found = samples.filter((sample) =>
    sample.name === name && Object.entries(labels).every(([key, text]) => sample.labels[key] === text)
  );
  assertEquals(found.length, 1, `${name} ${JSON.stringify(labels)}`);
  return found[0]!.value;
}

Deno.test("GET /metrics counts what was done, under vLLM's names and our own", needed, async () => {
  await service.complete({ prompt: "Once upon a time", max_tokens: 400, ignore_eos: true, n: 3 });
  await service.complete({ prompt: "Once upon a time", max_tokens: 5, ignore_eos: true });
  const leaving = new AbortController();
  const left = await service.post("/v1/completions", {
    prompt: "One",
    max_tokens: 900,
    n: 3,
    stream: true,
    ignore_eos: true,
  }, {
    signal: leaving.signal,
  });
  await left.body!.getReader().read();
  leaving.abort();
  await atRest(service.engine);
  const { samples } = await scrape();
  assert(
    samples.every(({ name, labels }) => name.startsWith("process_") || labels["model_name"] === "org/m"),
  );
  const value = (name: string, labels = {}) => valueOf(samples, name, labels);

  assertEquals(value("vllm:request_success_total", { finished_reason: "length" }), 4);
  assertEquals(value("vllm:request_success_total", { finished_reason: "abort" }), 3);
  assertEquals(value("vllm:request_success_total", { finished_reason: "error" }), 0);
  for (
    const name of ["time_to_first_token_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds"]
  ) {
    assertEquals(value(`vllm:${name}_count`), 3, name);
    assert(value(`vllm:${name}_sum`) > 0, name);
  }
  // Between the tokens of each choice, and of the request that was left.
  assert(value("vllm:inter_token_latency_seconds_count") >= 3 * 399 + 4);
  assert(value("vllm:generation_tokens_total") >= 1205);
  assertEquals(value("vllm:num_requests_running"), 0);
  assertEquals(value("vllm:num_requests_waiting"), 0);
  assertEquals(value("vllm:kv_cache_usage_perc"), 0);
  assert(value("vllm:prefix_cache_queries_total") > 0);
  assertEquals(value("vllm:cache_config_info", { block_size: "32", kv_mode: "kv-rm" }), 1);

  assert(value("kvrm_preemptions_total") > 0, "the pool is too small for three");
  assertEquals(value("vllm:num_preemptions_total"), value("kvrm_preemptions_total"));
  const steps = value("kvrm_steps_total");
  const shapes = samples.filter(({ name }) => name === "kvrm_step_seconds_count");
  assertEquals(shapes.map(({ labels }) => labels["shape"]), ["decode", "mixed_16", "mixed_64", "mixed_256"]);
  assertEquals(shapes.reduce((sum, { value }) => sum + value, 0), steps);
  for (const name of ["kvrm_plan_seconds", "kvrm_commit_seconds", "kvrm_groups_per_slot_after_merge"]) {
    assertEquals(value(`${name}_count`), steps, name);
  }
  const before = value("kvrm_groups_total", { merge: "before" });
  assert(before > value("kvrm_groups_total", { merge: "after" }));
  assert(
    value("kvrm_moved_bytes_total", { kind: "copy_on_write" }) > 0,
    "choices share the prompt's last block",
  );
  assertEquals(value("kvrm_moved_bytes_total", { kind: "host" }), 0);
  assert(value("kvrm_staging_budget_bytes_total") >= value("kvrm_moved_bytes_total", { kind: "staging" }));
  const blocks = samples.filter(({ name }) => name === "kvrm_kv_blocks");
  assertEquals(blocks.reduce((sum, { value }) => sum + value, 0), service.engine.stats().blocks.total);
  assertEquals(value("kvrm_kv_live_bytes"), 0);
  // The library is asked for its own counters only now and then.
  const own = async (name: string) => valueOf((await scrape()).samples, name);
  await until(async () => await own("kvrm_graph_captures_total") >= 1, "the library's counters are read");
  assert(await own("kvrm_step_busy_seconds_total") > 0);
});

Deno.test(
  "GET /metrics gives histograms whose buckets add up, and counters that never fall",
  needed,
  async () => {
    const first = (await scrape()).samples;
    await service.complete({ prompt: "One day", max_tokens: 20, ignore_eos: true });
    const { samples, text } = await scrape();
    const types = new Map(
      [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name!, type!]),
    );
    const key = ({ name, labels }: Sample) => JSON.stringify([name, labels]);
    const earlier = new Map(first.map((sample) => [key(sample), sample.value]));
    assertEquals(samples.length, new Set(samples.map(key)).size);
    for (const sample of samples) {
      const family = types.get(sample.name) ?? types.get(sample.name.replace(/_(bucket|sum|count)$/, ""));
      assert(family !== undefined, sample.name);
      if (family !== "gauge") assert(sample.value >= earlier.get(key(sample))!, key(sample));
    }
    for (const [name, type] of types) {
      if (type !== "histogram") continue;
      for (const { labels, value } of samples.filter((sample) => sample.name === `${name}_count`)) {
        const buckets = samples.filter((sample) =>
          sample.name === `${name}_bucket` && sample.labels["shape"] === labels["shape"]
        ).map((sample) => sample.value);
        assertEquals(buckets, buckets.toSorted((a, b) => a - b), name);
        assertEquals(buckets.at(-1), value, name);
      }
    }
  },
);

Deno.test("deploy/ asks for metrics that there are", needed, async () => {
  const { text } = await scrape();
  const types = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name!, type!]));
  const rules = await Deno.readTextFile(`${DEPLOY}/prometheus/rules.yml`);
  const dashboard = await Deno.readTextFile(`${DEPLOY}/grafana/kvrm.json`);
  const recorded = [...rules.matchAll(/record: (\S+)/g)].map(([, name]) => name!);
  assert(JSON.parse(dashboard).panels.length > 15);
  const used = new Set(
    [...(rules + dashboard).matchAll(/\b(?:vllm|kvrm):?[a-z_0-9:]+/g)].map(([name]) => name),
  );
  let known = 0;
  for (const name of used) {
    if (recorded.includes(name) || !/^(vllm:|kvrm_)/.test(name)) continue;
    const base = name.replace(/_(bucket|sum|count)$/, "");
    assert(types.has(name) || types.get(base) === "histogram", name);
    known++;
  }
  assert(known > 20, String(known));
});

async function bash(script: string, input = ""): Promise<{ success: boolean; output: string }> {
  const child = new Deno.Command("bash", {
    args: ["-c", script],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(input));
  await writer.close();
  const { success, stdout, stderr } = await child.output();
  return { success, output: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}

const { success: promtool } = await bash("command -v promtool");

Deno.test("GET /metrics and deploy/prometheus please promtool", {
  ignore: CANNOT_RUN || !promtool,
}, async () => {
  const { text } = await scrape();
  for (
    const [script, input] of [
      [`promtool check rules ${DEPLOY}/prometheus/rules.yml`],
      [`promtool check config ${DEPLOY}/prometheus/prometheus.yml`],
      [`promtool test rules ${DEPLOY}/prometheus/rules_test.yml`],
      // It also has opinions on names, and some are vLLM's; those it writes with status 3.
      ["promtool check metrics; test $? -ne 1", text],
    ] as const
  ) {
    const { success, output } = await bash(script, input);
    assert(success, `${script}: ${output}`);
  }
});
