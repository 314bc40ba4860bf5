/**
 * A Hugging Face model folder, read into what the engine needs.
 *
 * @module
 */
import { basename, join } from "node:path";
import * as z from "zod/mini";
import { ModelError } from "../errors.ts";
import { ChatTemplate } from "./chat_template.ts";
import { asIds } from "./config.ts";
import { readJsonIfPresent } from "./json.ts";
import { isFile, loadModelTables, type ModelTables } from "./tables.ts";
import { ModelTokenizer } from "./tokenizer.ts";

export { loadModelTables, type ModelTables, randomModel } from "./tables.ts";

/** Sampling parameters that `generation_config.json` recommends. */
export interface GenerationDefaults {
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
}

/** A model, ready for the engine: its tables, its tokenizer and its habits. */
export interface LoadedModel {
  /** The name that clients use. */
  id: string;
  architecture: string;
  /** Storage type of most weights: "f32", "bf16", "q4_k" and so on. */
  dtype: string;
  parameters: number;
  tables: ModelTables;
  tokenizer: ModelTokenizer;
  chatTemplate: ChatTemplate | null;
  defaults: GenerationDefaults;
  /** From generation_config.json, else config.json, else the tokenizer. */
  eosTokenIds: number[];
  /** Things worth telling the user once, for example tensors that are not read. */
  notes: string[];
}

/** Reads a model: a folder of Hugging Face's, or a GGUF file. `id` defaults to its name. */
export async function loadModel(path: string, options: { id?: string } = {}): Promise<LoadedModel> {
  if (!await isFile(path)) return await loadModelFolder(path, options);
  // Loaded only here: a start from a folder should not pay for it.
  const { loadGguf } = await import("./gguf/model.ts");
  return loadGguf(path, options);
}

/**
 * Reads a model folder: config.json, safetensors headers, tokenizer.json, tokenizer_config.json, the chat
 * template and generation_config.json. Weights are not read. Throws a ModelError naming the file, the tensor
 * or field, what was found and what is wanted.
 *
 * `id` defaults to the folder's name, or to org/name for a snapshot in the Hugging Face cache.
 */
export async function loadModelFolder(path: string, options: { id?: string } = {}): Promise<LoadedModel> {
  const { folder, config, tables, dtype, parameters, ignoredTensors } = await loadModelTables(path);
  const [tokenizer, chatTemplate, generation] = await Promise.all([
    ModelTokenizer.fromFolder(folder),
    ChatTemplate.fromFolder(folder),
    readGenerationConfig(folder),
  ]);
  if (tokenizer.modelVocabSize > config.vocab) {
    throw new ModelError(
      `${join(folder, "tokenizer.json")} has ${tokenizer.modelVocabSize} tokens, ` +
        `more than the ${config.vocab} of config.json (vocab_size)`,
    );
  }
  const eosOfTokenizer = tokenizer.eosTokenId === null ? [] : [tokenizer.eosTokenId];
  const notes: string[] = [];
  if (ignoredTensors.length > 0) {
    const some = ignoredTensors.slice(0, 3).join(", ") + (ignoredTensors.length > 3 ? ", ..." : "");
    notes.push(
      `${ignoredTensors.length} tensors that ${config.architecture} does not have are not read: ${some}`,
    );
  }
  return {
    id: options.id ?? defaultId(folder),
    architecture: config.architecture,
    dtype,
    parameters,
    tables,
    tokenizer,
    chatTemplate,
    defaults: generation.defaults,
    eosTokenIds: [generation.eosTokenIds, config.eosTokenIds, eosOfTokenizer].find((ids) => ids.length > 0) ??
      [],
    notes,
  };
}

function defaultId(folder: string): string {
  const [, org, name] = /\/models--([^/]+?)--([^/]+)\/snapshots\/[0-9a-f]{40}$/.exec(folder) ?? [];
  return org === undefined ? basename(folder) : `${org}/${name}`;
}

const id = z.int().check(z.nonnegative());
const unit = z.nullish(z.number().check(z.minimum(0), z.maximum(1)));
const generationFields = z.looseObject({
  eos_token_id: z.nullish(z.union([id, z.array(id)])),
  temperature: z.nullish(z.number().check(z.nonnegative())),
  top_k: z.nullish(z.int()),
  top_p: unit,
  min_p: unit,
});

/**
 * Sampling fields are taken whatever `do_sample` says, as other servers do: a request that wants greedy
 * decoding asks for temperature 0.
 */
async function readGenerationConfig(
  folder: string,
): Promise<{ defaults: GenerationDefaults; eosTokenIds: number[] }> {
  const path = join(folder, "generation_config.json");
  const json = await readJsonIfPresent(path);
  if (json === null) return { defaults: {}, eosTokenIds: [] };
  const parsed = z.safeParse(generationFields, json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new ModelError(`${path}: ${issue?.path.join(".") || "the file"}: ${issue?.message}`);
  }
  const g = parsed.data;
  const defaults: GenerationDefaults = {};
  if (typeof g.temperature === "number") defaults.temperature = g.temperature;
  if (typeof g.top_k === "number") defaults.topK = Math.max(0, g.top_k); // -1 is another way to say off
  if (typeof g.top_p === "number" && g.top_p > 0) defaults.topP = g.top_p;
  if (typeof g.min_p === "number") defaults.minP = g.min_p;
  return { defaults, eosTokenIds: asIds(g.eos_token_id) };
}
