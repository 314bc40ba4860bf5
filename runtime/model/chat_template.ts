/**
 * Chat templates: Jinja, as `transformers` renders it.
 *
 * @module
 */

import { join } from "node:path";
import { InvalidRequestError, ModelError } from "../errors.ts";
import type { ChatOptions } from "../types.ts";
import { JinjaTemplate } from "./jinja.ts";
import { messageOf, readJsonIfPresent, readTextIfPresent } from "./json.ts";

/** One or several named templates, with the model's special tokens. Parsed when first used. */
export class ChatTemplate {
  readonly #sources: ReadonlyMap<string, string>;
  readonly #variables: Readonly<Record<string, unknown>>;
  readonly #parsed = new Map<string, JinjaTemplate>();
  readonly #origin: string;

  /** `templates`: by name, one of them "default"; `variables`: special tokens by name, for example bos_token. */
  constructor(
    templates: string | ReadonlyMap<string, string>,
    variables: Readonly<Record<string, unknown>> = {},
    origin = "the chat template",
  ) {
    this.#sources = typeof templates === "string" ? new Map([["default", templates]]) : templates;
    this.#variables = variables;
    this.#origin = origin;
  }

  /**
   * From chat_template.jinja, else chat_template.json, else tokenizer_config.json; special tokens from the last.
   * null where there is no template. Throws a ModelError for a file that is malformed.
   */
  static async fromFolder(path: string): Promise<ChatTemplate | null> {
    const configPath = join(path, "tokenizer_config.json");
    const jinjaPath = join(path, "chat_template.jinja");
    const jsonPath = join(path, "chat_template.json");
    const [config, jinja, json] = await Promise.all([
      readJsonIfPresent(configPath) as Promise<Record<string, unknown> | null>,
      readTextIfPresent(jinjaPath),
      readJsonIfPresent(jsonPath) as Promise<Record<string, unknown> | null>,
    ]);
    const variables = specialTokens(config ?? {});
    if (jinja !== null) return new ChatTemplate(jinja, variables, jinjaPath);
    const [field, origin] = json?.["chat_template"] !== undefined
      ? [json["chat_template"], jsonPath]
      : [config?.["chat_template"], configPath];
    if (field === undefined || field === null) return null;
    return new ChatTemplate(namedTemplates(field, origin), variables, origin);
  }

  /** The text of the template, or of all of them. */
  get source(): string {
    return [...this.#sources.values()].join("\n");
  }

  /**
   * The prompt for a conversation. The template writes BOS itself: encode the result with addSpecialTokens
   * false. Throws an InvalidRequestError with the template's own words when it refuses the messages. With tools
   * a template named "tool_use" is preferred.
   */
  render(messages: readonly unknown[], options: ChatOptions = {}): string {
    if (options.continueFinalMessage !== true) return this.#render(messages, options);
    const text = this.#render(messages, { ...options, addGenerationPrompt: false });
    const { content } = messages.at(-1) as { content?: unknown };
    return cutAfterFinalMessage(text, typeof content === "string" ? content : "");
  }

  #render(messages: readonly unknown[], options: ChatOptions): string {
    const name = options.tools !== undefined && this.#sources.has("tool_use") ? "tool_use" : "default";
    const template = this.#template(name);
    try {
      return template.render({
        ...this.#variables,
        ...options.variables,
        messages,
        tools: options.tools ?? null,
        documents: null,
        add_generation_prompt: options.addGenerationPrompt ?? true,
      });
    } catch (error) {
      throw new InvalidRequestError(
        `the model's chat template refuses the messages: ${messageOf(error)}`,
        "messages",
        null,
        {
          cause: error,
        },
      );
    }
  }

  #template(name: string): JinjaTemplate {
    let template = this.#parsed.get(name);
    if (template === undefined) {
      const source = this.#sources.get(name);
      if (source === undefined) {
        throw new ModelError(
          `${this.#origin} has no template "${name}", only ${[...this.#sources.keys()].join(", ")}`,
        );
      }
      try {
        template = new JinjaTemplate(source);
      } catch (error) {
        throw new ModelError(`${this.#origin}: chat template "${name}": ${messageOf(error)}`, {
          cause: error,
        });
      }
      this.#parsed.set(name, template);
    }
    return template;
  }
}

/** The text up to the end of the last message's content, as transformers' `continue_final_message` cuts it. */
function cutAfterFinalMessage(text: string, content: string): string {
  const trimmed = content.trim();
  const at = text.lastIndexOf(trimmed);
  if (at < 0 || trimmed === "") {
    throw new InvalidRequestError(
      "the last message cannot be continued: the chat template does not show its content, or it is empty",
      "messages",
    );
  }
  // Templates that trim have dropped the space at the content's end.
  const spaced = content.trimStart();
  return text.slice(0, at + (text.startsWith(spaced, at) ? spaced : trimmed).length);
}

/** tokenizer_config.json holds one template, or a list of named ones. */
function namedTemplates(field: unknown, origin: string): string | Map<string, string> {
  if (typeof field === "string") return field;
  const entries = Array.isArray(field) ? field as { name?: unknown; template?: unknown }[] : [];
  const templates = new Map<string, string>();
  for (const { name, template } of entries) {
    if (typeof name === "string" && typeof template === "string") templates.set(name, template);
  }
  if (templates.size === 0 || templates.size < entries.length) {
    throw new ModelError(`${origin}: chat_template is neither a string nor a list of {name, template}`);
  }
  return templates;
}

/** bos_token and the like, as text, under the names that transformers hands to templates. */
function specialTokens(config: Record<string, unknown>): Record<string, unknown> {
  const tokens: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(config)) {
    if (!key.endsWith("_token")) continue;
    const content = typeof value === "string" ? value : (value as { content?: unknown } | null)?.content;
    if (typeof content === "string") tokens[key] = content;
  }
  const additional = config["additional_special_tokens"];
  if (Array.isArray(additional)) tokens["additional_special_tokens"] = additional;
  return tokens;
}
