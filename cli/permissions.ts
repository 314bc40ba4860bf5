/**
 * What the process may do, for the line at start.
 *
 * @module
 */

/** What the server needs to touch. */
export interface Needs {
  /** host:port */
  address: string;
  /** Files and folders that it reads. */
  read: readonly string[];
  /** The native libraries that may be loaded. */
  libraries: readonly string[];
  /** The cache of downloaded models, where there is one. */
  cache: string | undefined;
}

const HUB = "huggingface.co";

type Query = Deno.PermissionDescriptor;

/**
 * The permissions in force, such as `net=127.0.0.1:8000 read=models/tiny env=KVRM_* ffi=build/libkvrm_cpu.so`.
 * Deno can only be asked about one thing at a time, so a wider permission shows as `all` or not at all.
 */
export function describePermissions({ address, read, libraries, cache }: Needs, root: string): string {
  const short = (path: string) => path.startsWith(`${root}/`) ? path.slice(root.length + 1) : path;
  const caches = cache === undefined ? [] : [cache];
  const parts = [
    named("net", { name: "net" }, [address, HUB].map((host) => [host, { name: "net", host }])),
    named(
      "read",
      { name: "read" },
      [...read, ...caches].map((path) => [short(path), { name: "read", path }]),
    ),
    named("write", { name: "write" }, caches.map((path) => [short(path), { name: "write", path }])),
    named("env", { name: "env" }, [
      ["KVRM_*", { name: "env", variable: "KVRM_MODEL" }],
      ["HF_*", { name: "env", variable: "HF_HUB_CACHE" }],
    ]),
    named("ffi", { name: "ffi" }, libraries.map((path) => [short(path), { name: "ffi", path }])),
    named("sys", { name: "sys" }, [["homedir", { name: "sys", kind: "homedir" }]]),
    named("run", { name: "run" }, []),
  ];
  return parts.filter((part) => part !== null).join(" ");
}

function named(name: string, whole: Query, parts: [string, Query][]): string | null {
  if (granted(whole)) return `${name}=all`;
  const held = parts.filter(([, query]) => granted(query)).map(([label]) => label);
  return held.length === 0 ? null : `${name}=${held.join(",")}`;
}

function granted(query: Query): boolean {
  return Deno.permissions.querySync(query).state === "granted";
}

/** Reads environment variables, as far as that is allowed. */
export function readEnvironment(variable: string): string | undefined {
  return granted({ name: "env", variable }) ? Deno.env.get(variable) : undefined;
}

/** Names of the environment's variables, as far as they are known: scripts/serve.sh lists its own. */
export function environmentNames(): string[] {
  const listed = readEnvironment("KVRM_VARIABLES");
  if (listed !== undefined) return listed.split(/\s+/);
  return granted({ name: "env" }) ? Object.keys(Deno.env.toObject()) : [];
}
