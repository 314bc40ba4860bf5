/**
 * Files in the Hugging Face cache: `blobs/<etag>`, linked from `snapshots/<commit>/<path>`, the layout that Python's
 * huggingface_hub shares.
 *
 * `@huggingface/hub` finds and opens the file (plain or Xet); writing it is ours, because its
 * `downloadFileToCacheDir` reports no progress, starts an interrupted file again, and checks neither size nor hash.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { dirname, join, relative } from "node:path";
import { ModelError } from "../errors.ts";

/** A file of a repository. */
export interface HubFile {
  path: string;
  size: number;
  /** SHA-256 of a large file; git's blob id (SHA-1) of a small one. */
  etag: string;
}

/** Where to get it. */
export interface HubSource {
  repo: string;
  revision: string;
  hubUrl: string;
  accessToken?: string;
  /** Whether large files may come by the Xet protocol. */
  xet: boolean;
}

/** Attempts in a row that bring no byte before a download is given up. */
const MAX_FRUITLESS_ATTEMPTS = 4;

/**
 * Puts a file into `storage/blobs`, unless it is there. Bytes gather in `<etag>.incomplete`, under a lock, so that
 * of two processes one waits for the other; a file that is found incomplete goes on from its length. A file
 * with the wrong hash is removed, and fetched again if a part of it was there before.
 *
 * onBytes is told about every byte, those that were there before too; it may be told a negative number.
 */
export async function downloadToCache(
  source: HubSource,
  file: HubFile,
  storage: string,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const blobs = join(storage, "blobs");
  if (!/^[0-9a-f]{40,64}$/.test(file.etag)) {
    throw new ModelError(`${source.repo}: ${file.path} has the etag ${file.etag}`);
  }
  const blob = join(blobs, file.etag);
  const incomplete = `${blob}.incomplete`;
  await Deno.mkdir(blobs, { recursive: true });
  if (await exists(blob)) return onBytes(file.size);
  using out = await Deno.open(incomplete, { create: true, read: true, write: true });
  await out.lock(true);
  if (await exists(blob)) { // while we waited for the lock
    await removeIfPresent(incomplete);
    return onBytes(file.size);
  }
  // A part that was there before may be damaged: then once more, from the beginning.
  for (let resumed = (await out.stat()).size > 0;; resumed = false) {
    const length = await fill(out, source, file, onBytes);
    const hash = await hashOf(out, file);
    if (hash === file.etag) break;
    onBytes(-length);
    await out.truncate(0);
    if (!resumed) {
      await removeIfPresent(incomplete);
      throw new ModelError(`${source.repo}: ${file.path} arrived damaged: hash ${hash}, wanted ${file.etag}`);
    }
  }
  await Deno.rename(incomplete, blob);
}

/** Appends what is missing, over several attempts where the connection breaks. Returns the file's length. */
async function fill(
  out: Deno.FsFile,
  source: HubSource,
  file: HubFile,
  onBytes: (bytes: number) => void,
): Promise<number> {
  const { downloadFile } = await import("@huggingface/hub");
  let have = (await out.stat()).size;
  if (have > file.size) {
    await out.truncate(0);
    have = 0;
  }
  onBytes(have);
  for (let fruitless = 0; have < file.size;) {
    const start = have;
    try {
      const blob = await downloadFile({ ...source, path: file.path });
      if (blob === null) throw new ModelError(`${source.repo} has no ${file.path} at ${source.revision}`);
      if (blob.size !== file.size) {
        throw new ModelError(
          `${source.repo}: ${file.path} has ${blob.size} bytes, its listing says ${file.size}`,
        );
      }
      await out.seek(have, Deno.SeekMode.Start);
      for await (const chunk of blob.slice(have, file.size).stream()) {
        const bytes = chunk.subarray(0, file.size - have);
        for (let at = 0; at < bytes.length;) at += await out.write(bytes.subarray(at));
        have += bytes.length;
        onBytes(bytes.length);
        if (have === file.size) break;
      }
      if (have < file.size) {
        throw new Error(`the connection ended after ${have} of ${file.size} bytes of ${file.path}`);
      }
    } catch (error) {
      fruitless = have > start ? 0 : fruitless + 1;
      const status = (error as { statusCode?: number }).statusCode ?? 500;
      if (error instanceof ModelError || status < 500 || fruitless === MAX_FRUITLESS_ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200 * 2 ** fruitless));
    }
  }
  return have;
}

/** Links `snapshot/<path>` to the blob, relatively, as Python does. */
export async function linkIntoSnapshot(storage: string, snapshot: string, file: HubFile): Promise<void> {
  const link = join(snapshot, file.path);
  await Deno.mkdir(dirname(link), { recursive: true });
  await removeIfPresent(link);
  const target = join(storage, "blobs", file.etag);
  try {
    await Deno.symlink(relative(dirname(link), target), link);
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) return; // another process was faster
    await Deno.copyFile(target, link); // a file system without symbolic links
  }
}

/** SHA-256 of the content, or git's blob id, whichever the etag is. */
async function hashOf(file: Deno.FsFile, { size, etag }: HubFile): Promise<string> {
  const hash = createHash(etag.length === 64 ? "sha256" : "sha1");
  if (etag.length !== 64) hash.update(`blob ${size}\0`);
  const buffer = new Uint8Array(1 << 20);
  await file.seek(0, Deno.SeekMode.Start);
  for (let n; (n = await file.read(buffer)) !== null;) hash.update(buffer.subarray(0, n));
  return hash.digest("hex");
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function removeIfPresent(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
