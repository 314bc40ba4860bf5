import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { ModelError } from "../../runtime/errors.ts";
import { type DownloadProgress, resolveModel } from "../../runtime/model/hub.ts";
import { loadModelFolder } from "../../runtime/model/folder.ts";
import { chooseGguf } from "../../runtime/model/gguf/parts.ts";
import { progressBar } from "../../runtime/model/progress.ts";
import { safetensorsBytes, TINY_CONFIG, TINY_TENSORS, TINY_TOKENIZER } from "./support.ts";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const bytesOf = (content: object) => new TextEncoder().encode(JSON.stringify(content));
const NAMES = Object.keys(TINY_TENSORS);
const shard = (part: string[]) =>
  safetensorsBytes(Object.fromEntries(part.map((n) => [n, TINY_TENSORS[n]!])));

/** Files of the model that the server has. */
const FILES: Record<string, Uint8Array> = {
  "README.md": new TextEncoder().encode("# Not needed"),
  "config.json": bytesOf(TINY_CONFIG),
  "tokenizer.json": bytesOf(TINY_TOKENIZER),
  "generation_config.json": bytesOf({ eos_token_id: 2 }),
  "model.safetensors": safetensorsBytes(TINY_TENSORS),
  "pytorch_model.bin": new Uint8Array(100),
};
const SHARDED: Record<string, Uint8Array> = {
  "config.json": FILES["config.json"]!,
  "tokenizer.json": FILES["tokenizer.json"]!,
  "model.safetensors.index.json": bytesOf({
    weight_map: Object.fromEntries(NAMES.map((name, i) => [name, i < 3 ? "a.safetensors" : "b.safetensors"])),
  }),
  "a.safetensors": shard(NAMES.slice(0, 3)),
  "b.safetensors": shard(NAMES.slice(3)),
  "c.safetensors": new Uint8Array(9),
};

interface Hub {
  endpoint: string;
  /** Method, path and Range of each request. */
  requests: string[];
  cacheDir: string;
  /** Resolves the model with this server and cache. */
  resolve(spec: string, options?: Parameters<typeof resolveModel>[1]): Promise<string>;
  /** What the server does to the content of a file: damage it, or break the connection after some bytes. */
  spoil: Map<string, (content: Uint8Array) => { content: Uint8Array; breakAfter?: number }>;
  /** Only this token is let in. */
  token: string | null;
}

/** Runs a test against a server on loopback that answers as the Hub does, with an empty cache. */
async function withHub(files: Record<string, Uint8Array>, test: (hub: Hub) => Promise<void>): Promise<void> {
  const cacheDir = await Deno.makeTempDir({ prefix: "kvrm-hub-" });
  const hub: Hub = {
    endpoint: "",
    requests: [],
    cacheDir,
    resolve: (spec, options) =>
      resolveModel(spec, { endpoint: hub.endpoint, cacheDir, token: null, onProgress: () => {}, ...options }),
    spoil: new Map(),
    token: null,
  };
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => answer(request, files, hub),
  );
  hub.endpoint = `http://127.0.0.1:${server.addr.port}`;
  try {
    await test(hub);
  } finally {
    await server.shutdown();
    await Deno.remove(cacheDir, { recursive: true });
  }
}

function answer(request: Request, files: Record<string, Uint8Array>, hub: Hub): Response {
  const path = decodeURIComponent(new URL(request.url).pathname);
  const range = request.headers.get("range");
  hub.requests.push(`${path}${range ? ` ${range}` : ""}`);
  if (hub.token !== null && request.headers.get("authorization") !== `Bearer ${hub.token}`) {
    return Response.json({ error: "Access to model org/tiny is restricted." }, { status: 401 });
  }
  if (path === "/api/models/org/tiny/revision/main" || path === "/api/models/org/tiny/revision/v1") {
    const date = "2024-01-01T00:00:00Z";
    return Response.json({
      _id: "1",
      id: "org/tiny",
      private: false,
      gated: false,
      downloads: 0,
      likes: 0,
      lastModified: date,
      sha: COMMIT,
    });
  }
  if (path === `/api/models/org/tiny/tree/${COMMIT}`) {
    return Response.json(Object.entries(files).map(([path, content]) => listing(path, content)));
  }
  const name = path.startsWith(`/org/tiny/resolve/${COMMIT}/`) ? path.split("/").at(-1)! : "";
  if (files[name] === undefined) return Response.json({ error: "Repository not found" }, { status: 404 });
  return sendFile(name, files[name], range, hub);
}

function sha256(content: Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

function listing(path: string, content: Uint8Array) {
  const oid = createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
  const large = /\.(safetensors|gguf)$/.test(path);
  const lfs = {
    oid: createHash("sha256").update(content).digest("hex"),
    size: content.length,
    pointerSize: 130,
  };
  return { type: "file", path, size: content.length, oid, ...(large && { lfs }) };
}

function sendFile(name: string, whole: Uint8Array, range: string | null, hub: Hub): Response {
  const probe = range === "bytes=0-0";
  const { content, breakAfter } = probe
    ? { content: whole }
    : hub.spoil.get(name)?.(whole) ?? { content: whole };
  const [, first = "0", last = ""] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
  const start = Number(first);
  const end = last === "" ? content.length : Number(last) + 1;
  const part = content.slice(start, end);
  const headers = {
    etag: '"x"',
    "content-length": `${part.length}`,
    "content-range": `bytes ${start}-${end - 1}/${content.length}`,
  };
  const status = range === null ? 200 : 206;
  if (breakAfter === undefined) return new Response(part, { status, headers });
  // Fewer bytes than announced: the connection is closed.
  const body = ReadableStream.from([part.slice(0, breakAfter)]);
  return new Response(body, { status, headers });
}

Deno.test("resolveModel() returns a folder as it is", async () => {
  const folder = await Deno.makeTempDir();
  assertEquals(await resolveModel(folder), folder);
  assertEquals(await resolveModel("./no/such/folder"), "./no/such/folder");
  assertEquals(await resolveModel("runtime/model"), "runtime/model"); // a path wins over a name
  assertEquals(await resolveModel("runtime/mod.gguf"), "runtime/mod.gguf"); // no name ends in .gguf
  await Deno.remove(folder);
});

Deno.test("resolveModel() refuses what is neither a folder nor a name", async () => {
  const specs = ["", "name", "a/b/c", "org/name@", "org/..", "org/na me", "org/name:", "org/name:../x.gguf"];
  for (const spec of specs) {
    await assertRejects(() => resolveModel(spec), ModelError, "wanted org/name or org/name@revision");
  }
});

Deno.test("resolveModel() downloads what is needed into the cache's usual layout, then needs no network", async () => {
  await withHub(FILES, async (hub) => {
    const progress: DownloadProgress[] = [];
    const folder = await hub.resolve("org/tiny", { onProgress: (p) => progress.push(p) });
    const storage = join(hub.cacheDir, "models--org--tiny");
    assertEquals(folder, join(storage, "snapshots", COMMIT));
    assertEquals(Deno.readTextFileSync(join(storage, "refs", "main")), COMMIT);
    const names = [...Deno.readDirSync(folder)].map((entry) => entry.name).sort();
    assertEquals(names, ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]);
    const blob = sha256(FILES["model.safetensors"]!);
    assertEquals(Deno.readLinkSync(join(folder, "model.safetensors")), join("..", "..", "blobs", blob));
    assertEquals((await loadModelFolder(folder)).id, "org/tiny");

    const total = names.reduce((sum, name) => sum + FILES[name]!.length, 0);
    assertEquals(progress.at(-1), { file: "model.safetensors", bytes: total, total });
    const before = hub.requests.length;
    assertEquals(await hub.resolve("org/tiny"), folder);
    assertEquals(await hub.resolve(`org/tiny@${COMMIT}`, { offline: true }), folder);
    assertEquals(hub.requests.length, before);
  });
});

Deno.test("resolveModel() downloads the shards that the index names, and a revision by its name", async () => {
  await withHub(SHARDED, async (hub) => {
    const folder = await hub.resolve("org/tiny@v1");
    assertEquals((await loadModelFolder(folder)).tables.files.length, 2);
    assertEquals([...Deno.readDirSync(folder)].some((entry) => entry.name === "c.safetensors"), false);
    // A shard that is gone is fetched again, the others are not.
    await Deno.remove(await Deno.realPath(join(folder, "b.safetensors")));
    hub.requests.length = 0;
    assertEquals(await hub.resolve("org/tiny@v1"), folder);
    assertEquals(
      new Set(
        hub.requests.filter((r) => r.includes("resolve")).map((r) => r.split("/").at(-1)!.split(" ")[0]),
      ),
      new Set(["b.safetensors"]),
    );
  });
});

/** A repository of GGUF files, one of them in two parts. */
const GGUFS: Record<string, Uint8Array> = {
  "config.json": FILES["config.json"]!,
  "tiny-Q4_K_M.gguf": new Uint8Array(900).fill(1),
  "tiny-Q8_0-00001-of-00002.gguf": new Uint8Array(800).fill(2),
  "tiny-Q8_0-00002-of-00002.gguf": new Uint8Array(700).fill(3),
};

Deno.test("resolveModel() downloads one GGUF file of a repository, with all its parts, and nothing else", async () => {
  await withHub(GGUFS, async (hub) => {
    const snapshot = join(hub.cacheDir, "models--org--tiny", "snapshots", COMMIT);
    const names = () => [...Deno.readDirSync(snapshot)].map(({ name }) => name).sort();
    const path = await hub.resolve("org/tiny:tiny-Q4_K_M.gguf");
    assertEquals(path, join(snapshot, "tiny-Q4_K_M.gguf"));
    assertEquals(Deno.readFileSync(path), GGUFS["tiny-Q4_K_M.gguf"]!);
    assertEquals(names(), ["tiny-Q4_K_M.gguf"]);
    const before = hub.requests.length;
    for (const spec of ["org/tiny:tiny-Q4_K_M", "org/tiny:q4_k_m", "hf.co/org/tiny@main:Q4_K_M"]) {
      assertEquals(await hub.resolve(spec, { offline: true }), path);
    }
    assertEquals(hub.requests.length, before);

    const first = join(snapshot, "tiny-Q8_0-00001-of-00002.gguf");
    assertEquals(await hub.resolve("org/tiny:Q8_0"), first);
    assertEquals(names().length, 3);
    // One part of two is not the model.
    await Deno.remove(join(snapshot, "tiny-Q8_0-00002-of-00002.gguf"));
    await assertRejects(() => hub.resolve("org/tiny:Q8_0", { offline: true }), ModelError, "HF_HUB_OFFLINE");
    assertEquals(await hub.resolve("org/tiny:Q8_0"), first);
    assertEquals(names().length, 3);
  });
});

Deno.test("resolveModel() says which GGUF files a repository has", async () => {
  await withHub(GGUFS, async (hub) => {
    await assertRejects(
      () => hub.resolve("org/tiny:Q2_K"),
      ModelError,
      'org/tiny has no GGUF file for "Q2_K": wanted one of tiny-Q4_K_M.gguf, tiny-Q8_0-00001-of-00002.gguf',
    );
    await assertRejects(
      () => hub.resolve("org/tiny"),
      ModelError,
      "name one, as in org/tiny:tiny-Q4_K_M.gguf",
    );
  });
});

Deno.test("chooseGguf() takes a file by its path, or by a part of its name that no other has", () => {
  const paths = [
    "a-Q4_K_M.gguf",
    "a-Q4_K_S.gguf",
    "b/a.Q8_0.gguf",
    "a-Q6_K-00001-of-00002.gguf",
    "README.md",
  ];
  const choose = (wanted: string) => chooseGguf(paths, wanted, "org/a");
  assertEquals(choose("b/a.Q8_0.gguf"), ["b/a.Q8_0.gguf"]);
  assertEquals(choose("b/a.Q8_0"), ["b/a.Q8_0.gguf"]);
  assertEquals(choose("q8_0"), ["b/a.Q8_0.gguf"]);
  assertEquals(choose("Q6_K"), ["a-Q6_K-00001-of-00002.gguf", "a-Q6_K-00002-of-00002.gguf"]);
  assertThrows(() => choose("a"), ModelError, "several GGUF files");
  assertThrows(() => choose("Q4_K"), ModelError, 'no GGUF file for "Q4_K": wanted one of a-Q4_K_M.gguf');
  assertThrows(() => choose("README.md"), ModelError, "no GGUF file");
  assertThrows(() => chooseGguf(["README.md"], "x", "org/a"), ModelError, "nor any other");
});

Deno.test("resolveModel() goes on with a broken download where it stopped", async () => {
  await withHub(FILES, async (hub) => {
    let breaks = 2;
    hub.spoil.set(
      "model.safetensors",
      (content) => breaks-- > 0 ? { content, breakAfter: 300 } : { content },
    );
    const progress: DownloadProgress[] = [];
    const folder = await hub.resolve("org/tiny", { onProgress: (p) => progress.push(p) });
    assertEquals(await Deno.readFile(join(folder, "model.safetensors")), FILES["model.safetensors"]!);
    assertEquals(
      hub.requests.some((r) => /model\.safetensors bytes=300-/.test(r)),
      true,
      hub.requests.join("\n"),
    );
    assertEquals(progress.at(-1)!.bytes, progress.at(-1)!.total);
  });
});

Deno.test("resolveModel() uses the part that an earlier run left, and discards one that is damaged", async () => {
  const content = FILES["model.safetensors"]!;
  const blob = sha256(content);
  for (
    const [part, asked] of [[content.slice(0, 500), "bytes=500-"], [
      new Uint8Array(500).fill(7),
      "bytes=500-",
    ], [new Uint8Array(5000), ""]] as const
  ) {
    await withHub(FILES, async (hub) => {
      const blobs = join(hub.cacheDir, "models--org--tiny", "blobs");
      await Deno.mkdir(blobs, { recursive: true });
      await Deno.writeFile(join(blobs, `${blob}.incomplete`), part);
      const folder = await hub.resolve("org/tiny");
      assertEquals(await Deno.readFile(join(folder, "model.safetensors")), content);
      assertEquals(hub.requests.some((r) => asked !== "" && r.includes(asked)), asked !== "");
      assertEquals([...Deno.readDirSync(blobs)].some((entry) => entry.name.endsWith(".incomplete")), false);
    });
  }
});

Deno.test("resolveModel() refuses a file whose hash is wrong and leaves nothing of it", async () => {
  await withHub(FILES, async (hub) => {
    hub.spoil.set(
      "model.safetensors",
      (content) => ({ content: content.map((b, i) => i === 9 ? b ^ 1 : b) }),
    );
    const error = await assertRejects(
      () => hub.resolve("org/tiny"),
      ModelError,
      "model.safetensors arrived damaged",
    );
    assertStringIncludes(error.message, sha256(FILES["model.safetensors"]!));
    hub.spoil.clear();
    await hub.resolve("org/tiny");
  });
});

Deno.test("resolveModel() lets one of two downloads of a model wait for the other", async () => {
  await withHub(FILES, async (hub) => {
    const folders = await Promise.all([hub.resolve("org/tiny"), hub.resolve("org/tiny")]);
    assertEquals(folders[0], folders[1]);
    await loadModelFolder(folders[0]!);
  });
});

Deno.test("resolveModel() sends the token, and says what to do when it is refused", async () => {
  await withHub(FILES, async (hub) => {
    hub.token = "hf_right";
    const anonymous = await assertRejects(
      () => hub.resolve("org/tiny"),
      ModelError,
      "refuses org/tiny (401)",
    );
    assertStringIncludes(anonymous.message, "set HF_TOKEN to a token");
    const wrong = await assertRejects(() => hub.resolve("org/tiny", { token: "hf_wrong" }), ModelError);
    assertStringIncludes(wrong.message, "accept the model's terms");
    await assertRejects(() => hub.resolve("org/tiny", { token: "secret" }), ModelError, "wanted hf_...");
    await hub.resolve("org/tiny", { token: "hf_right" });
  });
});

Deno.test("resolveModel() says when a model, a revision or a file does not exist", async () => {
  await withHub(FILES, async (hub) => {
    await assertRejects(() => hub.resolve("org/huge"), ModelError, "has no model org/huge (404)");
    await assertRejects(() => hub.resolve("org/tiny@v9"), ModelError, "has no model org/tiny@v9 (404)");
  });
  const { "tokenizer.json": _, ...noTokenizer } = FILES;
  await withHub(
    noTokenizer,
    (hub) => assertRejects(() => hub.resolve("org/tiny"), ModelError, "has no tokenizer.json").then(() => {}),
  );
  const { "model.safetensors": __, ...noWeights } = FILES;
  await withHub(
    noWeights,
    (hub) => assertRejects(() => hub.resolve("org/tiny"), ModelError, "has neither").then(() => {}),
  );
  const { "b.safetensors": ___, ...noShard } = SHARDED;
  await withHub(
    noShard,
    (hub) =>
      assertRejects(() => hub.resolve("org/tiny"), ModelError, "has no b.safetensors, which").then(() => {}),
  );
});

Deno.test("resolveModel() says what to do without a network", async () => {
  const cacheDir = await Deno.makeTempDir();
  const nobody = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const endpoint = `http://127.0.0.1:${nobody.addr.port}`;
  nobody.close();
  const options = { cacheDir, endpoint, token: null };
  const error = await assertRejects(
    () => resolveModel("org/tiny", options),
    ModelError,
    "cannot download org/tiny",
  );
  assertStringIncludes(error.message, "give the path of a folder");
  await assertRejects(
    () => resolveModel("org/tiny", { ...options, offline: true }),
    ModelError,
    "HF_HUB_OFFLINE",
  );
  await Deno.remove(cacheDir, { recursive: true });
});

Deno.test("progressBar() stays in its line on a terminal and writes a line for each file elsewhere", () => {
  let text = "";
  let now = 0;
  const out = {
    write: (t: string) => void (text += t),
    isTerminal: true,
    now: () => now,
    columns: () => 200,
  };
  const draw = progressBar("org/tiny", out);
  draw({ file: "a", bytes: 0, total: 3_000_000 });
  now = 50;
  draw({ file: "a", bytes: 10, total: 3_000_000 }); // too soon
  now = 1000;
  draw({ file: "a", bytes: 1_500_000, total: 3_000_000 });
  draw({ file: "b", bytes: 3_000_000, total: 3_000_000 });
  const lines = text.split("\r\x1b[K").slice(1);
  assertEquals(lines.length, 3);
  assertStringIncludes(lines[1]!, "############............] 50% 1.5 MB/3.0 MB 1.5 MB/s a");
  assertEquals(lines[2]!.endsWith("b\n"), true);
  text = "";
  const log = progressBar("org/tiny", { ...out, isTerminal: false });
  for (const file of ["a", "a", "b"]) log({ file, bytes: 1, total: 2 });
  assertEquals(text, "org/tiny: downloading a\norg/tiny: downloading b\n");
});
