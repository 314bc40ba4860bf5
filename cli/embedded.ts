/**
 * The embedded model. Within the one file that `deno compile` makes, its files are no files of the system's: the
 * native library cannot map its weights there, so they are written out once.
 *
 * @module
 */

import { readEnvironment } from "./permissions.ts";

/** The embedded model's folder, where the system has it. */
export function embeddedModel(root: string, version: string): string {
  const embedded = `${root}/models/tiny`;
  return Deno.build.standalone ? writtenOut(embedded, cacheFolder(), version) : embedded;
}

/**
 * A folder of the cache with the files of `embedded`; without a cache that can be written, one of a new temporary
 * folder. Files are written beside their place and renamed, so that nobody finds half of one.
 */
export function writtenOut(embedded: string, cache: string | null, version: string): string {
  const files = [...Deno.readDirSync(embedded)].filter(({ isFile }) => isFile).map(({ name }) => name);
  const name = embedded.slice(embedded.lastIndexOf("/") + 1);
  const write = (folder: string) => {
    Deno.mkdirSync(folder, { recursive: true, mode: 0o700 });
    for (const file of files) writeOut(`${embedded}/${file}`, `${folder}/${file}`);
    return folder;
  };
  if (cache !== null) {
    try {
      return write(`${cache}/kvrm/${version}/${name}`);
    } catch (error) {
      if (!isRefusal(error)) throw error;
    }
  }
  return write(`${Deno.makeTempDirSync({ prefix: "kvrm-" })}/${name}`);
}

/** Whether the system, and not the program, is why a file cannot be written. */
function isRefusal(error: unknown): boolean {
  const { PermissionDenied, NotCapable, NotADirectory, AlreadyExists, ReadOnlyFilesystem } = Deno.errors as
    & typeof Deno.errors
    & { ReadOnlyFilesystem?: typeof Error };
  const kinds = [PermissionDenied, NotCapable, NotADirectory, AlreadyExists, ReadOnlyFilesystem];
  return kinds.some((kind) => kind !== undefined && error instanceof kind) ||
    /read-only|no space/i.test((error as Error).message);
}

function writeOut(from: string, to: string): void {
  const bytes = Deno.readFileSync(from);
  if (sameFile(bytes, to)) return;
  const partial = `${to}.${Deno.pid}`;
  Deno.writeFileSync(partial, bytes, { mode: 0o600 });
  Deno.renameSync(partial, to);
}

/** Whether the file is there with these bytes. */
function sameFile(bytes: Uint8Array, path: string): boolean {
  try {
    if (Deno.statSync(path).size !== bytes.length) return false;
    const found = Deno.readFileSync(path);
    for (let i = 0; i < bytes.length; i++) if (found[i] !== bytes[i]) return false;
    return true;
  } catch {
    return false;
  }
}

function cacheFolder(): string | null {
  const home = readEnvironment("HOME");
  return readEnvironment("XDG_CACHE_HOME") || (home ? `${home}/.cache` : null);
}
