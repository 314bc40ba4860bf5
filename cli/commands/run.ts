/**
 * `kvrm run`: one answer to one prompt, streamed to the terminal.
 *
 * @module
 */

import { createEngine } from "../../runtime/engine.ts";
import type { Engine, GenerateRequest, SamplingParams } from "../../runtime/types.ts";
import { UsageError } from "../arguments.ts";
import type { ServerOptions } from "../options.ts";
import { note, print } from "./output.ts";
import type { AnswerOptions } from "./table.ts";

/** The exit code after Ctrl-C, as shells have it: 128 and the signal's number. */
const INTERRUPTED = 130;

/**
 * Answers the prompt, or the text on standard input where there is none. Returns the exit code.
 *
 * @throws {UsageError} when there is no prompt and nobody to give one
 */
export async function run(
  options: ServerOptions & AnswerOptions & { model: string },
  prompt: string | null,
): Promise<number> {
  const text = prompt ?? await standardInput();
  const { lib, backend = "auto", ...rest } = options;
  const cancelled = new AbortController();
  const interrupt = () => cancelled.signal.aborted ? Deno.exit(INTERRUPTED) : cancelled.abort();
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, interrupt);
  // One sequence, without constraints: nothing is made ready for more.
  const own = { backend, slots: 1, structuredOutput: false, ...(lib !== undefined && { libraryPath: lib }) };
  await using engine = await createEngine({ ...rest, ...own });
  try {
    await answer(engine, { ...requestOf(options, text, engine), signal: cancelled.signal }, options.stats);
  } catch (error) {
    // Whoever read the answer has seen enough of it.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
  return cancelled.signal.aborted ? INTERRUPTED : 0;
}

async function standardInput(): Promise<string> {
  if (Deno.stdin.isTerminal()) {
    throw new UsageError('run needs a prompt: kvrm run "Once upon a time", or a text on standard input');
  }
  const text = (await new Response(Deno.stdin.readable).text()).replace(/\n$/, "");
  if (text === "") throw new UsageError("run needs a prompt; standard input was empty");
  return text;
}

function requestOf(options: AnswerOptions, text: string, engine: Engine): GenerateRequest {
  const { system, raw = false, maxTokens, stop } = options;
  const { temperature, topP, topK, minP, seed } = options;
  const sampling: SamplingParams = {
    ...(temperature !== undefined && { temperature }),
    ...(topP !== undefined && { topP }),
    ...(topK !== undefined && { topK }),
    ...(minP !== undefined && { minP }),
    ...(seed !== undefined && { seed }),
  };
  const asChat = engine.model.hasChatTemplate && !raw;
  if (system !== undefined && !asChat) {
    throw new UsageError(
      raw
        ? "--system and --raw contradict each other: a plain prompt has no turns"
        : "--system: this model has no chat template, so a prompt has no turns",
    );
  }
  return {
    ...(asChat
      ? {
        messages: [
          ...(system === undefined ? [] : [{ role: "system", content: system }]),
          { role: "user", content: text },
        ],
      }
      : { prompt: text }),
    sampling,
    ...(maxTokens !== undefined && { maxTokens }),
    ...(stop !== undefined && { stop: [stop] }),
  };
}

async function answer(engine: Engine, request: GenerateRequest, stats = false): Promise<void> {
  const generation = engine.generate(request);
  let last = "";
  for await (const { text } of generation) {
    if (text === "") continue;
    print(text);
    last = text;
  }
  if (!last.endsWith("\n")) print("\n");
  if (!stats) return;
  const { promptTokens, completionTokens } = generation.usage;
  const { submitted, firstToken, lastToken } = generation.timing;
  const perSecond = (completionTokens - 1) / (lastToken - firstToken) * 1000;
  note(
    `kvrm: ${promptTokens} tokens of prompt, first token after ${(firstToken - submitted).toFixed(1)} ms; ` +
      `${completionTokens} tokens of answer` +
      (perSecond > 0 && Number.isFinite(perSecond) ? `, ${perSecond.toFixed(1)} a second\n` : "\n"),
  );
}
