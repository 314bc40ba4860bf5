/**
 * Names of GGUF files: a large model comes in parts, `name-00001-of-00003.gguf` and so on.
 *
 * @module
 */
import { ModelError } from "../../errors.ts";

const PART = /-(\d{5})-of-(\d{5})\.gguf$/;

/** Paths of all parts of a model, given one of them; the path alone for a model in one file. */
export function partPaths(path: string): string[] {
  const [suffix, , total] = PART.exec(path) ?? [];
  if (suffix === undefined) return [path];
  const prefix = path.slice(0, -suffix.length);
  return Array.from(
    { length: Number(total) },
    (_, i) => `${prefix}-${String(i + 1).padStart(5, "0")}-of-${total}.gguf`,
  );
}

/** The number of a part, from 1 on; 1 for a model in one file. */
export function partNumber(path: string): number {
  return Number(PART.exec(path)?.[1] ?? 1);
}

/**
 * The files of the GGUF model that `wanted` means, of those that a repository has: a file by its path, with or without
 * `.gguf`, or the one whose name has `wanted` as a part, as `Q4_K_M`. Throws a ModelError that lists what there is
 * where it means none or several.
 */
export function chooseGguf(paths: readonly string[], wanted: string, repo: string): string[] {
  const models = paths.filter((path) => path.endsWith(".gguf") && partNumber(path) === 1).sort();
  const exact = [wanted, `${wanted}.gguf`].find((path) => paths.includes(path) && path.endsWith(".gguf"));
  if (exact !== undefined) return partPaths(exact);
  const tag = wanted.toLowerCase();
  const tagged = models.filter((path) => path.toLowerCase().split(/[-./]/).includes(tag));
  if (tagged.length === 1) return partPaths(tagged[0]!);
  const some = (tagged.length > 0 ? tagged : models).join(", ");
  throw new ModelError(
    `${repo} has ${tagged.length > 0 ? "several GGUF files" : "no GGUF file"} for ${JSON.stringify(wanted)}` +
      (some === "" ? ", nor any other" : `: wanted one of ${some}`),
  );
}
