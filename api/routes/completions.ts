/**
 * `POST /v1/completions`.
 *
 * @module
 */

import { type Context, Hono } from "hono";
import type { Engine, Generation } from "../../runtime/types.ts";
import { type Choice, collectAll, startAll } from "../batch.ts";
import { readJson } from "../body.ts";
import { CompletionChunkWriter, type PromptLogprob } from "../chunks.ts";
import type { ApiContext, ApiEnv } from "../context.ts";
import { type Identity, newIdentity } from "../identity.ts";
import { CompletionLogprobWriter } from "../logprobs.ts";
import { completionRequests, promptsOf, requireModel, withExactPrompts } from "../requests.ts";
import { checkCompletion, type CompletionBody, completionBody, type Prompt } from "../schemas/completions.ts";
import { validate } from "../schemas/validate.ts";
import { withStopText } from "../stop_text.ts";
import { streamResponse } from "../stream.ts";
import { usageBody } from "../usage.ts";

/** Routes of plain completions. */
export function completionRoutes(context: ApiContext): Hono<ApiEnv> {
  return new Hono<ApiEnv>().post("/v1/completions", (c) => complete(context, c));
}

async function complete({ engine, log, maxBodyBytes }: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const asked = validate(completionBody, await readJson(c.req.raw, maxBodyBytes));
  checkCompletion(asked);
  requireModel(engine.model, asked.model);
  const body = withExactPrompts(engine, asked);
  const started = await startAll(engine, completionRequests(body, c.req.raw.signal));
  const generations = body.include_stop_str_in_output ? started.map(withStopText) : started;
  const identity = newIdentity("cmpl", "text_completion", engine.model.id, c.get("record"));
  if (!body.stream) return Response.json(await completion(engine, identity, body, generations));

  const includeUsage = body.stream_options?.include_usage ?? false;
  return streamResponse(c, log, {
    identity,
    generations,
    n: body.n ?? 1,
    includeUsage,
    ...(body.return_token_ids && { promptTokenIds: "choice" as const }),
    writer: (index) => new CompletionChunkWriter(identity, index, includeUsage),
    ...(body.echo && { opening: echoOpening(engine, body) }),
  });
}

async function completion(
  engine: Engine,
  identity: Identity,
  body: CompletionBody,
  generations: readonly Generation[],
) {
  const n = body.n ?? 1;
  const choices = await collectAll(generations, n);
  const prompts = promptsOf(body.prompt);
  const echoes = body.echo
    ? await Promise.all(generations.map((generation, i) => echoOf(engine, prompts[i]!, generation)))
    : [];
  return {
    ...identity,
    choices: choices.map((choice, index) => ({
      ...choiceBody(index, choice, echoes[Math.floor(index / n)], typeof body.logprobs === "number"),
      ...(body.return_token_ids && {
        token_ids: choice.tokenIds,
        prompt_token_ids: generations[Math.floor(index / n)]!.promptTokenIds,
      }),
    })),
    usage: usageBody(generations.map(({ usage }) => usage)),
  };
}

function choiceBody(index: number, choice: Choice, echo: Echo | undefined, withLogprobs: boolean) {
  return {
    index,
    text: (echo?.text ?? "") + choice.text,
    logprobs: withLogprobs
      ? new CompletionLogprobWriter().write([...echo?.logprobs ?? [], ...choice.logprobs])
      : null,
    finish_reason: choice.finishReason,
    stop_reason: choice.stopReason,
  };
}

/** A prompt to be repeated before its answer. */
interface Echo {
  text: string;
  logprobs: PromptLogprob[] | null;
}

async function echoOf(engine: Engine, prompt: Prompt, generation: Generation): Promise<Echo> {
  const logprobs = await generation.promptLogprobs;
  return {
    text: typeof prompt === "string" ? prompt : engine.decode(prompt),
    logprobs:
      logprobs?.map((entry, i) =>
        entry ?? { bytes: engine.tokenBytes(generation.promptTokenIds[i]!), logprob: null }
      ) ?? null,
  };
}

function echoOpening(engine: Engine, body: CompletionBody) {
  const prompts = promptsOf(body.prompt);
  return async (
    generation: Generation,
    prompt: number,
    writers: readonly CompletionChunkWriter[],
  ): Promise<string> => {
    const { text, logprobs } = await echoOf(engine, prompts[prompt]!, generation);
    return writers.map((writer) => writer.echo(text, logprobs)).join("");
  };
}
