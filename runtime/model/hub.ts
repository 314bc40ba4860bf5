/**
 * Models of the Hugging Face Hub, in the usual cache.
 *
 * @module
 */
import { join } from "node:path";
import { ModelError } from "../errors.ts";
import { chooseGguf } from "./gguf/parts.ts";
import type { HubFile } from "./hub_cache.ts";
import { messageOf, parseJson } from "./json.ts";
import { type DownloadProgress, progressBar } from "./progress.ts";

export type { DownloadProgress } from "./progress.ts";

/** Where and how to look for a model. What is absent comes from the environment. */
export interface ResolveOptions {
  /** The cache. Default: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub. */
  cacheDir?: string;
  /** Default: HF_ENDPOINT, else https://huggingface.co. */
  endpoint?: string;
  /** An access token. Default: HF_TOKEN, else the one that `hf auth login` left; null for none. */
  token?: string | null;
  /** Whether the model may be a folder's path. Default true. */
  folders?: boolean;
  /** Use the cache only. Default: HF_HUB_OFFLINE. */
  offline?: boolean;
  /** Called as bytes come in. Default: a progress bar on stderr. */
  onProgress?: (progress: DownloadProgress) => void;
}

/** Files of a model's root folder that are read, beside its weights. */
const SMALL_FILES = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
  "chat_template.json",
];
const REQUIRED = ["config.json", "tokenizer.json"];
const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

/**
 * The folder of a model, or its GGUF file: a path is returned as it is; `org/name` or `org/name@revision` is looked
 * up in the cache and, if it is not complete there, downloaded into it, and so is `org/name:file`, a GGUF file of a
 * repository. Only what is needed is downloaded, the weights last, so that a snapshot that has them is complete. An
 * interrupted download goes on where it stopped. `hf.co/` may stand before a name.
 *
 * Throws a ModelError that says what to do when there is no network, no such model, or no permission.
 */
export async function resolveModel(spec: string, options: ResolveOptions = {}): Promise<string> {
  if (options.folders !== false) {
    // Deno resolves "org/.." before it looks, so that it would be this folder; "" it refuses to look at.
    const mayBePath = spec !== "" && !/\/\.{1,2}$/.test(spec);
    if (/^(\/|\.{1,2}(\/|$)|~\/)|^[^:]+\.gguf$/.test(spec) || (mayBePath && await exists(spec))) return spec;
  }
  const parts = nameParts(spec);
  if (parts === null) {
    throw new ModelError(
      `${
        JSON.stringify(spec)
      } is neither a path nor the name of a model: wanted org/name or org/name@revision, and :file after it for a GGUF file`,
    );
  }
  const { name, revision, file } = parts;
  const cacheDir = options.cacheDir ?? await defaultCacheDir();
  const storage = join(cacheDir, `models--${name.replace("/", "--")}`);
  const cached = await cachedSnapshot(storage, revision, file);
  if (cached !== null) return cached;

  const offline = options.offline ??
    ["1", "ON", "YES", "TRUE"].includes((env("HF_HUB_OFFLINE") ?? "").toUpperCase());
  if (offline) {
    throw new ModelError(`${spec} is not in ${cacheDir}, and HF_HUB_OFFLINE forbids downloading it`);
  }
  const endpoint = (options.endpoint ?? env("HF_ENDPOINT") ?? "https://huggingface.co").replace(/\/+$/, "");
  const token = options.token === undefined ? await defaultToken() : options.token;
  const repo: HubRepo = { name, revision, file, endpoint, ...(token && { accessToken: token }) };
  try {
    return await download(repo, storage, options.onProgress ?? progressBar(name));
  } catch (error) {
    throw explain(error, repo, token !== null);
  }
}

/** Whether this is `org/name`, `org/name@revision` or one of them with `:file`, be there such a model or not. */
export function isModelName(spec: string): boolean {
  return nameParts(spec) !== null;
}

interface ModelName {
  name: string;
  revision: string;
  /** A GGUF file of the repository, or a part of its name; null for the model of the repository. */
  file: string | null;
}

function nameParts(spec: string): ModelName | null {
  const [, name, revision = "main", file = null] =
    /^(?:(?:hf\.co|huggingface\.co)\/)?([\w.-]+\/[\w.-]+)(?:@([\w.-]+(?:\/[\w.-]+)*))?(?::([\w.+-]+(?:\/[\w.+-]+)*))?$/
      .exec(spec) ?? [];
  if (name === undefined || /(^|\/)\.{1,2}(\/|$)/.test(`${name}/${revision}/${file}`)) return null;
  return { name, revision, file };
}

interface HubRepo extends ModelName {
  endpoint: string;
  accessToken?: string;
}

async function download(
  repo: HubRepo,
  storage: string,
  onProgress: (progress: DownloadProgress) => void,
): Promise<string> {
  // Loaded only here: a start from a folder should not pay for it.
  const { listFiles, modelInfo } = await import("@huggingface/hub");
  const { downloadToCache, linkIntoSnapshot } = await import("./hub_cache.ts");
  const access = { hubUrl: repo.endpoint, ...(repo.accessToken && { accessToken: repo.accessToken }) };
  const { sha } = await modelInfo({
    ...access,
    name: repo.name,
    revision: repo.revision,
    additionalFields: ["sha"],
  });
  if (!/^[0-9a-f]{40}$/.test(sha)) {
    throw new ModelError(`${repo.endpoint} gave ${JSON.stringify(sha)} as commit of ${repo.name}`);
  }

  const listed = new Map<string, HubFile>();
  // Parts of large GGUF models lie in folders.
  const recursive = repo.file !== null;
  for await (const entry of listFiles({ ...access, repo: repo.name, revision: sha, recursive })) {
    const etag = entry.lfs?.oid ?? entry.oid;
    if (entry.type === "file" && etag !== undefined) {
      listed.set(entry.path, { path: entry.path, size: entry.size, etag });
    }
  }
  const snapshot = join(storage, "snapshots", sha);
  const source = { ...access, repo: repo.name, revision: sha, xet: env("HF_HUB_DISABLE_XET") === undefined };
  const fetchFile = async (file: HubFile, onBytes: (bytes: number) => void) => {
    await downloadToCache(source, file, storage, onBytes);
    await linkIntoSnapshot(storage, snapshot, file);
  };
  const wanted = repo.file === null
    ? await folderFiles(repo, listed, async (index) => {
      await fetchFile(index, () => {});
      return await Deno.readTextFile(join(snapshot, INDEX));
    })
    : chooseGguf([...listed.keys()], repo.file, repo.name);
  const files = wanted.map((path) => {
    const file = listed.get(path);
    if (file === undefined) throw new ModelError(`${repo.name} at ${repo.revision} has no ${path}`);
    return file;
  });

  const progress = { bytes: 0, total: files.reduce((sum, file) => sum + file.size, 0) };
  for (const file of files) {
    await fetchFile(file, (bytes) => {
      progress.bytes += bytes;
      onProgress({ file: file.path, ...progress });
    });
  }
  if (repo.revision !== sha) {
    const ref = join(storage, "refs", repo.revision);
    await Deno.mkdir(join(ref, ".."), { recursive: true });
    await Deno.writeTextFile(ref, sha);
  }
  return repo.file === null ? snapshot : join(snapshot, wanted[0]!);
}

/** Paths of the files that a model in safetensors needs, the weights last. */
async function folderFiles(
  repo: HubRepo,
  listed: ReadonlyMap<string, HubFile>,
  readIndex: (index: HubFile) => Promise<string>,
): Promise<string[]> {
  const ggufs = [...listed.keys()].filter((path) => path.endsWith(".gguf"));
  const index = listed.get(INDEX);
  if (ggufs.length > 0 && !listed.has(SINGLE) && index === undefined) {
    throw new ModelError(`${repo.name} has GGUF files: name one, as in ${repo.name}:${ggufs[0]}`);
  }
  for (const path of REQUIRED) {
    if (!listed.has(path)) throw new ModelError(`${repo.name} at ${repo.revision} has no ${path}`);
  }
  const small = SMALL_FILES.filter((path) => listed.has(path));
  if (listed.has(SINGLE)) return [...small, SINGLE];
  if (index === undefined) {
    throw new ModelError(`${repo.name} at ${repo.revision} has neither ${SINGLE} nor ${INDEX}`);
  }
  const shards = shardNames(await readIndex(index), INDEX);
  for (const path of shards) {
    if (!listed.has(path)) throw new ModelError(`${repo.name} has no ${path}, which ${INDEX} names`);
  }
  return [...small, ...shards];
}

/** The snapshot that a revision names in the cache, or the GGUF file in it, if every file that is needed is there. */
async function cachedSnapshot(
  storage: string,
  revision: string,
  file: string | null,
): Promise<string | null> {
  const commit = /^[0-9a-f]{40}$/.test(revision)
    ? revision
    : (await readIfPresent(join(storage, "refs", revision)))?.trim();
  if (!commit) return null;
  const snapshot = join(storage, "snapshots", commit);
  const present = async (names: readonly string[]) =>
    (await Promise.all(names.map((name) => isFile(join(snapshot, name))))).every((there) => there);
  if (file !== null) {
    try {
      const parts = chooseGguf(await filesIn(snapshot), file, storage);
      return await present(parts) ? join(snapshot, parts[0]!) : null;
    } catch (error) {
      if (error instanceof ModelError) return null; // The repository may have what the cache lacks.
      throw error;
    }
  }
  if (!await present(REQUIRED)) return null;
  if (await present([SINGLE])) return snapshot;
  const index = await readIfPresent(join(snapshot, INDEX));
  return index !== null && await present(shardNames(index, join(snapshot, INDEX))) ? snapshot : null;
}

/** Paths of a folder's files, those of its folders too; none where there is no such folder. */
async function filesIn(folder: string, prefix = ""): Promise<string[]> {
  const paths: string[] = [];
  const entries = await ifPresent(() => Array.fromAsync(Deno.readDir(folder)));
  for (const { name, isDirectory } of entries ?? []) {
    if (isDirectory) paths.push(...await filesIn(join(folder, name), `${prefix}${name}/`));
    else paths.push(`${prefix}${name}`);
  }
  return paths;
}

function shardNames(index: string, source: string): string[] {
  const map = (parseJson(index, source) as { weight_map?: Record<string, string> } | null)?.weight_map ?? {};
  return [...new Set(Object.values(map))];
}

/** A sentence for whatever went wrong on the way, that says what can be done. */
function explain(error: unknown, repo: HubRepo, hasToken: boolean): Error {
  if (error instanceof ModelError) return error;
  const spec = (repo.revision === "main" ? repo.name : `${repo.name}@${repo.revision}`) +
    (repo.file === null ? "" : `:${repo.file}`);
  const status = (error as { statusCode?: unknown })?.statusCode;
  const advice = hasToken
    ? "the token of HF_TOKEN may not read it: accept the model's terms on its page, or use another token"
    : "if it is gated or private, set HF_TOKEN to a token that may read it";
  const cause = { cause: error };
  if (status === 401 || status === 403) {
    return new ModelError(`${repo.endpoint} refuses ${spec} (${status}): ${advice}`, cause);
  }
  if (status === 404) {
    return new ModelError(`${repo.endpoint} has no model ${spec} (404): check its name; ${advice}`, cause);
  }
  if (typeof status === "number") {
    return new ModelError(`${repo.endpoint} answers ${status} for ${spec}: ${messageOf(error)}`, cause);
  }
  if (error instanceof TypeError && /access token/.test(error.message)) {
    return new ModelError("HF_TOKEN is no Hugging Face token: wanted hf_...", cause);
  }
  if (error instanceof Deno.errors.NotCapable) return error;
  return new ModelError(
    `cannot download ${spec} from ${repo.endpoint}: ${messageOf(error)}; ` +
      "without a network, give the path of a folder or fill the cache elsewhere",
    cause,
  );
}

async function defaultCacheDir(): Promise<string> {
  return env("HF_HUB_CACHE") ?? env("HUGGINGFACE_HUB_CACHE") ?? join(await huggingFaceHome(), "hub");
}

async function huggingFaceHome(): Promise<string> {
  const home = env("HF_HOME");
  if (home !== undefined) return home;
  const { homedir } = await import("node:os");
  return join(env("XDG_CACHE_HOME") ?? join(homedir(), ".cache"), "huggingface");
}

async function defaultToken(): Promise<string | null> {
  const file = env("HF_TOKEN_PATH") ?? join(await huggingFaceHome(), "token");
  return env("HF_TOKEN") ?? env("HUGGING_FACE_HUB_TOKEN") ?? ((await readIfPresent(file))?.trim() || null);
}

/** An environment variable; an empty one counts as absent. */
function env(name: string): string | undefined {
  return Deno.env.get(name) || undefined;
}

const exists = async (path: string) => await statIfPresent(path) !== null;
const isFile = async (path: string) => (await statIfPresent(path))?.isFile ?? false;

async function statIfPresent(path: string): Promise<Deno.FileInfo | null> {
  return await ifPresent(() => Deno.stat(path));
}

async function readIfPresent(path: string): Promise<string | null> {
  return await ifPresent(() => Deno.readTextFile(path));
}

async function ifPresent<T>(read: () => Promise<T>): Promise<T | null> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return null;
    throw error;
  }
}
