import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { parse } from "../main.ts";
import { makeWorkload } from "../workloads/workload.ts";
import { documentOf, table, withClaims, withPeers } from "./document.ts";
import { capacity, measure, modeSide, paced, scaled } from "./modes.ts";
import { bar } from "./progress.ts";
import { replay } from "./replay.ts";
import { machineSlug, measured, ratio, readResult, spread, type SuiteResult } from "./results.ts";
import { model, OpenSide } from "./sides.ts";
import { inTurn, runSuite, type Suite } from "./suite.ts";
import { curve, interTokenMs, QUANTILES, summarise, thin } from "./summary.ts";
import { barSvg, lineSvg } from "./svg.ts";
import { figure, list, times, withSpread } from "./words.ts";

const CONTEXT = 256;
/** How long a replay takes is not what these tests ask. */
const PATIENT = { limitSeconds: 10_000 };
const side = {
  name: "small",
  options: { kvMode: "kv-rm", slots: 4, maxContext: CONTEXT, noop: true },
} as const;

Deno.test("replay() answers every request in full, and measures each token and step", () => {
  const { requests } = makeWorkload({
    family: "chat",
    trace: "synthetic",
    lengthScale: 0.05,
    rate: 2000,
    count: 30,
    maxContext: CONTEXT,
    vocab: 4096,
  });
  using open = new OpenSide(side, CONTEXT, model(CONTEXT));
  open.warmUp();
  const result = replay(open.host, open.sink, requests, PATIENT);
  assertEquals(result.requests.length, requests.length);
  let tokens = 0;
  result.requests.forEach((request, i) => {
    assert(request.finished);
    assertEquals(request.tokens, requests[i]!.maxTokens);
    assertEquals(request.promptTokens, requests[i]!.promptTokens.length);
    assert(request.tokenMs[0]! >= request.arrivalMs);
    tokens += request.tokens;
  });
  assertEquals(interTokenMs(result).length, tokens - requests.length);
  assert(interTokenMs(result).every((gap) => gap >= 0));
  const { steps } = result;
  for (const values of Object.values(steps)) assertEquals(values.length, steps.timeMs.length);
  assert(steps.slots.every((slots) => slots >= 0 && slots <= 4));
  assert(steps.liveTokens.every((live, i) => live >= 0 && live <= steps.heldTokens[i]!));
  assert(steps.mixed.includes(1) && steps.mixed.includes(0));
  assert(steps.groupsAfter.every((groups, i) => groups <= steps.groupsBefore[i]!));
  const values = summarise(result, { ttftMs: 1e9, tpotMs: 1e9 }, { blockTokens: 32, rowBytes: 256 });
  assertEquals(values["finished"], 30);
  assertEquals(values["goodput share"], 1);
  assert(values["held/live"]! >= 1);
  for (const [name, value] of Object.entries(values)) assert(Number.isFinite(value), name);
});

Deno.test("replay() stops after its limit of steps, and leaves the engine usable", () => {
  const requests = Array.from({ length: 6 }, () => ({
    arrivalMs: 0,
    promptTokens: new Int32Array(8).fill(7),
    maxTokens: 200,
  }));
  using open = new OpenSide(side, CONTEXT, model(CONTEXT));
  const cut = replay(open.host, open.sink, requests, { ...PATIENT, limitSteps: 20 });
  assert(cut.requests.every(({ finished }) => !finished));
  assert(cut.steps.timeMs.length >= 20 && cut.steps.timeMs.length <= 22);
  assert(open.host.loop.idle);
  const whole = replay(open.host, open.sink, requests.slice(0, 1), PATIENT);
  assertEquals(whole.requests[0]!.tokens, 200);
});

Deno.test("replay() counts a static slot's whole reservation as held", () => {
  using open = new OpenSide(
    { name: "static", options: { ...side.options, kvMode: "static" } },
    CONTEXT,
    model(CONTEXT),
  );
  const requests = [{ arrivalMs: 0, promptTokens: new Int32Array(8).fill(7), maxTokens: 20 }];
  const { steps } = replay(open.host, open.sink, requests, PATIENT);
  assertEquals(steps.heldTokens[5], CONTEXT);
  assert(steps.liveTokens[5]! < 20);
});

Deno.test("measure() replays a mode's side and names it; paced() keeps the order of arrivals and sets their rate", () => {
  const quiet = { begin: () => () => {} };
  const workload = scaled({ family: "uniform", trace: "synthetic", count: 3 });
  const fast = paced(workload, 100);
  const last = fast.requests[2]!.arrivalMs;
  assertAlmostEquals(last, 20, 1e-9);
  assert(fast.requests[1]!.arrivalMs <= last);
  const part = measure(modeSide("paged", 2, 8192, { noop: true }), fast, PATIENT, quiet);
  assertEquals(part.side, "paged");
  assertEquals(part.values["finished"], 3);
  assertEquals(part.series!.itl!.length, QUANTILES.length);
  assert(capacity(scaled({ family: "code", trace: "synthetic", count: 2 }), quiet, PATIENT.limitSeconds) > 0);
});

function resultOf(runs: [name: string, side: string, repeat: number, speed: number][]): SuiteResult {
  return {
    suite: "toy",
    machine: "a machine, 2 cores (avx2)",
    parameters: { slots: 2 },
    sources: {},
    runs: runs.map(([name, side, repeat, speed]) => ({
      case: name,
      side,
      repeat,
      date: "2026-01-02T03:04:05Z",
      values: { speed },
    })),
  };
}

Deno.test("ratio() divides repeat by repeat, and measured() spreads over repeats", () => {
  const result = resultOf([["c", "a", 0, 10], ["c", "b", 0, 5], ["c", "a", 1, 30], ["c", "b", 1, 10], [
    "d",
    "a",
    0,
    1,
  ]]);
  assertEquals(measured(result, "c", "a", "speed"), { median: 10, low: 10, high: 30, count: 2 });
  assertEquals(ratio(result, "c", "a", "b", "speed"), { median: 2, low: 2, high: 3, count: 2 });
  assertEquals(ratio(result, "d", "a", "b", "speed").count, 0);
  assertEquals(spread([3, 1, 2]), { median: 2, low: 1, high: 3, count: 3 });
});

Deno.test("figure() and its kin write numbers with the digits they have", () => {
  assertEquals([1234.5, 99.44, 5.678, 0.01234, NaN].map(figure), ["1,235", "99.4", "5.68", "0.012", "–"]);
  assertEquals(withSpread({ median: 2, low: 1, high: 3, count: 3 }), "2 (1–3)");
  assertEquals(withSpread(spread([])), "–");
  assertEquals(times({ median: 1.234, low: 1.1, high: 1.3, count: 2 }), "× 1.23 (1.10–1.30)");
  assertEquals(list(["a", "b", "c"]), "a, b and c");
  assertEquals(thin([1, 2, 3, 4], 2), [1.5, 3.5]);
  assertEquals(curve([1, 2, 3])[QUANTILES.indexOf(0.5)], 2);
  assertEquals(machineSlug("AMD EPYC, 2 cores (avx2)"), "amd-epyc-2c-avx2");
  assertEquals(machineSlug("Intel(R) Xeon(R), 2 cores (avx2 avx512f amx_tile)"), "intel-xeon-2c-amx");
  assertEquals(
    machineSlug("Intel(R) Xeon(R) Processor @ 2.10GHz, 2 cores (avx2 avx512f)"),
    "intel-xeon-2c-avx512",
  );
  assertEquals(bar(0.5), "█".repeat(12) + "░".repeat(12));
});

Deno.test("inTurn() begins with another side each time", () => {
  assertEquals([0, 1, 2, 3].map((repeat) => inTurn(["a", "b", "c"], repeat).join("")), [
    "abc",
    "bca",
    "cab",
    "abc",
  ]);
});

/** Whether every element of an SVG closes, as far as it has no text that looks like one. */
function balanced(svg: string): boolean {
  const open: string[] = [];
  for (const [, closes, name, rest] of svg.matchAll(/<(\/?)([a-z]+)((?:"[^"]*"|[^">])*)>/g)) {
    if (closes) {
      if (open.pop() !== name) return false;
    } else if (!rest!.endsWith("/")) open.push(name!);
  }
  return open.length === 0;
}

Deno.test("barSvg() draws a bar per value in proportion, its spread, and escapes its words", () => {
  const svg = barSvg({
    title: "a < b & c",
    unit: "x",
    series: ["one", "two"],
    groups: [
      { label: "g", bars: [{ value: 10, low: 9, high: 12 }, { value: 5, low: 5, high: 5 }] },
      { label: "h", bars: [null, { value: 0, low: 0, high: 0 }] },
    ],
    mark: { at: 11, label: "aim" },
  });
  assert(balanced(svg));
  assertStringIncludes(svg, "a &lt; b &amp; c");
  const heights = [
    ...svg.matchAll(/<rect class="f\d" x="[\d.]+" y="[\d.]+" width="[\d.]+" height="([\d.]+)"><title>/g),
  ]
    .map(([, height]) => Number(height));
  assertEquals(heights.length, 3);
  assertAlmostEquals(heights[0]! / heights[1]!, 2, 0.02);
  assertEquals(heights[2], 0);
  assertEquals(svg.match(/class="spread"/g)!.length, 1);
  assertStringIncludes(svg, "prefers-color-scheme:dark");
  assert(!svg.includes("NaN"));
});

Deno.test("lineSvg() draws a path per line, on linear and on logarithmic axes", () => {
  const svg = lineSvg({
    title: "t",
    x: { label: "x" },
    y: { label: "y", log: true },
    lines: [{ name: "a", points: [[0, 1], [1, 10], [2, 100]] }, { name: "b", points: [[0, 5]] }],
  });
  assert(balanced(svg));
  const [, path] = /class="l0" d="([^"]*)"/.exec(svg)!;
  const ys = [...path!.matchAll(/[ML][\d.]+ ([\d.]+)/g)].map(([, y]) => Number(y));
  assertAlmostEquals(ys[0]! - ys[1]!, ys[1]! - ys[2]!, 0.2);
  assert(!svg.includes("NaN"));
});

const toy: Suite = {
  name: "toy",
  title: "a toy",
  question: "Is a faster?",
  method: ["By looking."],
  parameters: { slots: 2 },
  cases: [{ name: "c, one", seconds: 1, parts: 2 }, { name: "c, two", seconds: 1, parts: 2 }],
  timed: true,
  repeats: 2,
  run: (name, { repeat, begin }) => ({
    source: `source of ${name}`,
    parts: inTurn(["a", "b"], repeat).map((side) => {
      begin(side)(0.5);
      return { side, values: { speed: (side === "a" ? 10 : 5) + repeat }, series: { line: [1, 2] } };
    }),
  }),
  report: (result) => ({
    tables: [{
      title: "Speed",
      columns: ["case", "a"],
      rows: [["c, one", withSpread(measured(result, "c, one", "a", "speed"))]],
    }],
    figures: [{ name: "toy", title: "Toy", svg: "<svg/>" }],
    answer: [`a is ${times(ratio(result, "c, one", "a", "b", "speed"))} as fast.`],
    headline: `a | b: ${times(ratio(result, "c, one", "a", "b", "speed"))}`,
  }),
};

Deno.test("runSuite() adds repeats to what is there, case by case, and starts over with other parameters", async () => {
  const folder = Deno.makeTempDirSync();
  try {
    await runSuite(toy, { cases: [], folder });
    await runSuite(toy, { cases: ["c, one"], repeats: 1, folder });
    const result = readResult(folder, "toy")!;
    const runs = result.runs.map((run) => `${run.case} ${run.side} ${run.repeat}`);
    assertEquals(runs, [
      ...["c, one a 0", "c, one b 0", "c, two a 0", "c, two b 0"],
      ...["c, one b 1", "c, one a 1", "c, two b 1", "c, two a 1", "c, one a 2", "c, one b 2"],
    ]);
    assertEquals(result.runs.map(({ series }) => series !== undefined), runs.map((run) => run.endsWith("0")));
    assertEquals(result.sources["c, two"], "source of c, two");
    await runSuite({ ...toy, parameters: { slots: 3 } }, { cases: ["c, two"], repeats: 1, folder });
    assertEquals(readResult(folder, "toy")!.runs.length, 2);
    await assertRejects(
      () => runSuite(toy, { cases: ["d"], folder }),
      Error,
      "toy has no case d; there are: c, one, c, two",
    );
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("documentOf() says what the results say, and withClaims() and withPeers() replace the README's tables alone", () => {
  const result = resultOf([["c, one", "a", 0, 10], ["c, one", "b", 0, 5], ["c, one", "a", 1, 30], [
    "c, one",
    "b",
    1,
    10,
  ]]);
  const found = [{ suite: toy, result, folder: "../bench/results/machine" }];
  const text = documentOf(found);
  assertStringIncludes(text, "| c, one | 10 (10–30) |");
  assertStringIncludes(text, "a is × 2.00 (2.00–3.00) as fast.");
  assertStringIncludes(text, "![Toy](../bench/results/machine/toy.svg)");
  assertStringIncludes(text, "Machine: a machine, 2 cores (avx2). Repeats: 2. Date: 2026-01-02.");
  assertStringIncludes(text, "`deno task bench toy`");
  assertStringIncludes(text, "fewer than three repeats");
  assert(
    !documentOf([{ ...found[0]!, suite: { ...toy, timed: false } }]).includes("fewer than three repeats"),
  );
  const readme = "# x\n\n<!-- claims: made by `deno task bench report` -->\nold\n<!-- /claims -->\n\nrest\n";
  const replaced = withClaims(readme, found, [["more", "later", ""]]);
  assert(replaced.startsWith("# x\n\n<!-- claims") && replaced.endsWith("<!-- /claims -->\n\nrest\n"));
  assert(!replaced.includes("old"));
  assertStringIncludes(replaced, "a \\| b: × 2.00 (2.00–3.00)");
  assertStringIncludes(replaced, "| more ");
  assertEquals(withClaims(replaced, found, [["more", "later", ""]]), replaced);
  assertThrows(() => withClaims("# x", found, []), Error, "README.md has no");
  const section = { ...toy.report(result), readme: [{ title: "Beside", columns: ["x"], rows: [["y"]] }] };
  const peers = [...found, { ...found[0]!, suite: { ...toy, report: () => section } }];
  assertEquals(withClaims(readme, peers, [["more", "later", ""]]), replaced);
  const mark = "<!-- peers: made by `deno task bench report` -->\n\n";
  const compared = withPeers(`${mark}old\n\n<!-- /peers -->`, peers);
  assert(compared.startsWith(`${mark}On a machine, 2 cores (avx2), beside `) && !compared.includes("old"));
  assert(compared.endsWith("Beside:\n\n| x   |\n| --- |\n| y   |\n\n<!-- /peers -->"), compared);
  const later = {
    ...result,
    machine: "another",
    runs: result.runs.map((run) => ({ ...run, date: "2026-01-03" })),
  };
  const two = withPeers(`${mark}<!-- /peers -->`, [...peers, { ...peers[1]!, result: later }]);
  assert(two.startsWith(`${mark}On another, beside `), two);
  assertStringIncludes(two, "The same on a machine, 2 cores (avx2): [evaluation]");
  assertStringIncludes(withPeers(`${mark}<!-- /peers -->`, found), "Not measured yet.");
  assertEquals(table(["a", "b"], [["longer", "1"]]), "| a      | b   |\n| ------ | --- |\n| longer | 1   |");
});

Deno.test("docs/evaluation.md and the README's table are those that the results make", async () => {
  const { findResults } = await import("./document.ts");
  const root = new URL("../../", import.meta.url);
  const found = await findResults();
  // As the formatter leaves them: tables are padded by width, lists set apart.
  const plain = (text: string) => text.replace(/[ \t]+/g, " ").replace(/-{3,}/g, "---").replace(/\n+/g, "\n");
  const text = plain(Deno.readTextFileSync(new URL("docs/evaluation.md", root)));
  assertEquals(text, plain(documentOf(found)), "run `deno task bench report`");
});

Deno.test("parse() takes suites and flags, and names what it does not know", () => {
  assertEquals(parse(["claim1", "--case", "chat", "--repeat", "3", "--fresh", "--trace", "t"]), {
    names: ["claim1"],
    flags: { cases: ["chat"], fresh: true, repeat: 3, running: [], trace: "t" },
  });
  assertEquals(parse(["peers", "--llama-server", "s", "--peer", "vllm=http://127.0.0.1:8001/"]), {
    names: ["peers"],
    flags: {
      cases: [],
      fresh: false,
      running: [{ name: "vllm", address: "http://127.0.0.1:8001" }],
      llamaServer: "s",
    },
  });
  assertThrows(() => parse(["--peer", "http://127.0.0.1"]), Error, "wanted name=http://host:port");
  assertThrows(() => parse(["--what"]), Error, "there is no flag --what");
  assertThrows(() => parse(["--repeat", "0"]), Error, "--repeat is 0, wanted a whole number");
  assertThrows(() => parse(["--json"]), Error, "--json wants a value");
});
