/**
 * What `deno compile` has put into a program: a tree of files as JSON, and their bytes behind it.
 *
 * @module
 */

/** A file within a program. */
export interface EmbeddedFile {
  /** From the program's root, without a slash at its beginning. */
  path: string;
  bytes: Uint8Array;
}

interface Directory {
  n: string;
  e: Entry[];
}

type Entry = { Dir: Directory } | { File: { n: string; o: [start: number, length: number] } };

const utf8 = new TextDecoder();

/** The files of a program, from its bytes. The form is Deno's own and not written down: that of Deno 2.9. */
export function embeddedFiles(program: Uint8Array): EmbeddedFile[] {
  const view = new DataView(program.buffer, program.byteOffset);
  const start = indexOf(program, new TextEncoder().encode('[{"Dir":{"n":'));
  if (start < 0) throw new Error("the program has no tree of files");
  const length = Number(view.getBigUint64(start - 8, true));
  const tree = JSON.parse(utf8.decode(program.subarray(start, start + length))) as Entry[];
  // The length of all bytes stands before them.
  const base = start + length + 8;
  const files: EmbeddedFile[] = [];
  const walk = (entries: readonly Entry[], folder: string) => {
    for (const entry of entries) {
      if ("Dir" in entry) walk(entry.Dir.e, `${folder}${entry.Dir.n}/`);
      else if ("File" in entry) {
        const [at, size] = entry.File.o;
        files.push({ path: folder + entry.File.n, bytes: program.subarray(base + at, base + at + size) });
      }
    }
  };
  walk(tree, "");
  return files;
}

function indexOf(bytes: Uint8Array, word: Uint8Array): number {
  for (let at = bytes.indexOf(word[0]!); at >= 0; at = bytes.indexOf(word[0]!, at + 1)) {
    if (word.every((byte, i) => bytes[at + i] === byte)) return at;
  }
  return -1;
}
