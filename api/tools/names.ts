/**
 * Names of the ways in which models write calls: those of vLLM's parsers.
 *
 * @module
 */

/** Each has a parser. */
export const TOOL_FORMATS = ["hermes", "llama3_json", "mistral"] as const;

/** A way to write calls. */
export type ToolFormat = typeof TOOL_FORMATS[number];
