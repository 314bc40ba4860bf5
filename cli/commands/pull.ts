/**
 * `kvrm pull`: a model into the usual cache.
 *
 * @module
 */

import { isModelName, resolveModel } from "../../runtime/model/hub.ts";
import { UsageError } from "../arguments.ts";
import { print } from "./output.ts";

/**
 * Downloads what is missing of a model, with progress on standard error, and prints its folder, or the path of its GGUF file.
 *
 * @throws {UsageError} for a name that is none
 */
export async function pull(name: string): Promise<void> {
  if (!isModelName(name)) {
    throw new UsageError(
      `pull: ${
        JSON.stringify(name)
      } is no model's name; wanted org/name or org/name@revision, and :file after it for a GGUF file`,
    );
  }
  print(`${await resolveModel(name, { folders: false })}\n`);
}
