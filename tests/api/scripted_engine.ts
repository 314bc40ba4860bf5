/**
 * An engine that says what it is told to, a few characters at a time, for what a small model would never say.
 *
 * @module
 */

import { join } from "node:path";
import { ChatTemplate } from "../../runtime/model/chat_template.ts";
import type {
  ChatMessage,
  ChatOptions,
  Engine,
  FinishReason,
  GenerateChunk,
  GenerateRequest,
  Generation,
} from "../../runtime/types.ts";
import { FIXTURES } from "../model/support.ts";
import { newTiming } from "../../runtime/telemetry/request_metrics.ts";

/** What the engine answers to the prompt: a text, or a text and why it ends. */
export type Script = (prompt: string, request: GenerateRequest) => string | [string, FinishReason];

/** An engine, and the prompts that it was given. */
export interface ScriptedEngine extends Engine {
  readonly prompts: string[];
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** An engine with the chat template of a fixture, or one that is given. A token is a byte; a step makes three. */
export async function scriptedEngine(template: string, script: Script): Promise<ScriptedEngine> {
  const chat = template.includes("{%")
    ? new ChatTemplate(template)
    : (await ChatTemplate.fromFolder(join(FIXTURES, "chat", template)))!;
  const prompts: string[] = [];
  const engine = {
    prompts,
    model: {
      id: "scripted",
      created: 1,
      architecture: "None",
      dtype: "f32",
      parameters: 1,
      vocabSize: 256,
      maxContext: 65536,
      hasChatTemplate: true,
      chatTemplate: chat.source,
    },
    encode: (text: string) => [...encoder.encode(text)],
    decode: (ids: readonly number[]) => decoder.decode(Uint8Array.from(ids)),
    tokenBytes: (id: number) => Uint8Array.of(id),
    renderChat: (messages: readonly ChatMessage[], options?: ChatOptions) => chat.render(messages, options),
    stats: () => ({ running: 0, waiting: 0, blocks: { active: 0 } }),
    close: () => Promise.resolve(),
    generate(request: GenerateRequest): Generation {
      const ids = request.prompt as readonly number[];
      const prompt = decoder.decode(Uint8Array.from(ids));
      prompts.push(prompt);
      const said = script(prompt, request);
      const [text, reason] = typeof said === "string" ? [said, "stop"] as const : said;
      return say(ids.length, request, text, reason);
    },
  };
  return engine as unknown as ScriptedEngine;
}

function say(
  promptTokens: number,
  { n = 1, stop = [], logprobs }: GenerateRequest,
  text: string,
  reason: FinishReason,
): Generation {
  const ends = stop.map((word) => text.indexOf(word)).filter((at) => at >= 0);
  const end = ends.length > 0 ? Math.min(...ends) : text.length;
  const word = stop.find((word) => text.startsWith(word, end));
  const usage = { promptTokens, cachedTokens: 0, completionTokens: 0 };
  return {
    promptTokenIds: [],
    timing: newTiming(),
    promptLogprobs: Promise.resolve(null),
    usage,
    cancel: () => {},
    async *[Symbol.asyncIterator]() {
      for (let at = 0; at <= end; at += 3) {
        await Promise.resolve();
        for (let index = 0; index < n; index++) {
          const piece = text.slice(at, Math.min(at + 3, end));
          const last = at + 3 > end;
          const tokenIds = [...encoder.encode(piece)];
          usage.completionTokens += tokenIds.length;
          const chunk: GenerateChunk = { index, text: piece, tokenIds, finishReason: last ? reason : null };
          if (last && word !== undefined) chunk.stopReason = word;
          if (logprobs !== undefined) {
            chunk.logprobs = tokenIds.map((token) => ({
              token,
              bytes: Uint8Array.of(token),
              logprob: -1,
              top: [],
            }));
          }
          yield chunk;
        }
      }
    },
  };
}
