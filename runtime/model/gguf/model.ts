/**
 * A model in a GGUF file, read into what the engine needs.
 *
 * @module
 */
import { basename, resolve } from "node:path";
import { ModelError } from "../../errors.ts";
import type { LoadedModel } from "../folder.ts";
import { ropeInvFreq } from "../rope.ts";
import { type LoadedTables, nativeConfig } from "../tables.ts";
import { applyRopeFactors, parseGgufConfig } from "./config.ts";
import type { GgufMetadata } from "./metadata.ts";
import { locateGgufTensors, readF32Tensor, readGgufParts } from "./tensors.ts";
import { readGgufTokenizer } from "./tokenizer.ts";

interface LoadedGguf extends LoadedTables {
  metadata: GgufMetadata;
}

/**
 * Reads the headers of a GGUF model: the path is its file, or the first of several. Throws a ModelError naming file,
 * key or tensor, what was found and what is wanted.
 */
export function loadGgufTables(path: string): LoadedGguf {
  const file = resolve(path);
  const parts = readGgufParts(file);
  const { metadata } = parts.first;
  const config = parseGgufConfig(metadata, parts.tensors);
  const located = locateGgufTensors(parts, config);
  const factors = readF32Tensor(parts, "rope_freqs.weight");
  const invFreq = ropeInvFreq(config.headDim, config.ropeTheta, config.ropeScaling);
  return {
    folder: file,
    config,
    metadata,
    tables: {
      config: { ...nativeConfig(config), ropeInterleaved: config.interleavedRope },
      tensors: located.tensors,
      files: located.files,
      invFreq: factors === null ? invFreq : applyRopeFactors(invFreq, factors, file),
      layerWindows: config.layerWindows,
    },
    dtype: located.dtype,
    parameters: located.parameters,
    ignoredTensors: located.ignored,
  };
}

/** Reads all of a GGUF model but its weights, as `loadModelFolder()` does of a folder. */
export function loadGguf(path: string, options: { id?: string } = {}): LoadedModel {
  const { folder: file, config, metadata, tables, dtype, parameters, ignoredTensors } = loadGgufTables(path);
  const { tokenizer, chatTemplate, eosTokenIds, notes } = readGgufTokenizer(metadata, file);
  if (tokenizer.modelVocabSize > config.vocab) {
    throw new ModelError(
      `${file} has ${tokenizer.modelVocabSize} tokens, more than the ${config.vocab} rows of token_embd.weight`,
    );
  }
  if (ignoredTensors.length > 0) {
    const some = ignoredTensors.slice(0, 3).join(", ") + (ignoredTensors.length > 3 ? ", ..." : "");
    notes.push(
      `${ignoredTensors.length} tensors that ${config.architecture} does not have are not read: ${some}`,
    );
  }
  return {
    id: options.id ?? basename(file).replace(/(-\d{5}-of-\d{5})?\.gguf$/, ""),
    architecture: config.architecture,
    dtype,
    parameters,
    tables,
    tokenizer,
    chatTemplate,
    defaults: {},
    eosTokenIds,
    notes,
  };
}
