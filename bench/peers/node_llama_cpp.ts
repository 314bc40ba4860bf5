/**
 * The peer that anyone can have without building it: llama.cpp's libraries in the npm package node-llama-cpp, one for
 * each kind of processor. The package has no server, so it is measured in its own process.
 *
 * @module
 */
import type { BatchedRow, KernelCase } from "./kernel_case.ts";
import { casesText, parseRows } from "./kernel_case.ts";
import { outputOf } from "./process.ts";

/** The release that is measured: llama.cpp v0.5.0. */
export const NODE_LLAMA_CPP = "3.22.1";

const PLATFORMS: Readonly<Record<string, string>> = {
  "x86_64-linux": "linux-x64",
  "aarch64-linux": "linux-arm64",
  "aarch64-darwin": "mac-arm64-metal",
  "x86_64-darwin": "mac-x64",
};

/** A folder with the package, fetched once with npm. @throws {Error} where there is none for this platform */
export async function installNodeLlamaCpp(folder: string): Promise<string> {
  const platform = PLATFORMS[`${Deno.build.arch}-${Deno.build.os}`];
  if (platform === undefined) {
    throw new Error(`fetching node-llama-cpp: it has nothing built for ${Deno.build.target}`);
  }
  try {
    await Deno.stat(`${folder}/node_modules/node-llama-cpp/dist/index.js`);
    return folder;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  await Deno.mkdir(folder, { recursive: true });
  // Its optional packages are the libraries for every platform and GPU, a gigabyte; its scripts would build.
  await outputOf("npm", [
    ...["install", "--prefix", folder, "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"],
    ...[`node-llama-cpp@${NODE_LLAMA_CPP}`, `@node-llama-cpp/${platform}@${NODE_LLAMA_CPP}`],
  ]);
  return folder;
}

/** Measures the cases in one process. */
export async function nodeLlamaCppRows(
  folder: string,
  model: string,
  threads: number,
  cases: readonly KernelCase[],
): Promise<BatchedRow[]> {
  const driver = `${import.meta.dirname}/node_llama_cpp.mjs`;
  return parseRows(await outputOf("node", [driver, folder, model, String(threads), casesText(cases)])).rows;
}
