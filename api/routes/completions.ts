/**
 * `POST /v1/completions`.
 *
 * @module
 */

import { type Context, Hono } from "hono";
import type { Engine, Generation } from "../../runtime/types.ts";
import { type Choice, collectAll, startAll } from "../batch.ts";
import { readJson } from "../body.ts";
import { CompletionChunkWriter } from "../chunks.ts";
import type { ApiContext, ApiEnv } from "../context.ts";
import { type Identity, newIdentity } from "../identity.ts";
import { CompletionLogprobWriter, type PromptLogprob, promptLogprobs } from "../logprobs.ts";
import {
  completionRequests,
  extraFields,
  namesIds,
  promptsOf,
  requireModel,
  withExactPrompts,
  withProbs,
} from "../requests.ts";
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
  const body = withExactPrompts(engine, withProbs(asked));
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
    ...extraFields(body, "choice"),
    writer: (index) => new CompletionChunkWriter(identity, index, includeUsage, namesIds(body)),
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
    ? await Promise.all(generations.map((generation, i) => echoOf(engine, body, prompts[i]!, generation)))
    : [];
  const { prompt_logprobs: rivals } = body;
  const scored = typeof rivals === "number"
    ? await Promise.all(generations.map(async (one) => promptLogprobs(await one.promptLogprobs, rivals)))
    : null;
  return {
    ...identity,
    choices: choices.map((choice, index) => ({
      ...choiceBody(index, choice, echoes[Math.floor(index / n)], body),
      ...(scored !== null && { prompt_logprobs: scored[Math.floor(index / n)]! }),
      ...(body.return_token_ids && {
        token_ids: choice.tokenIds,
        prompt_token_ids: generations[Math.floor(index / n)]!.promptTokenIds,
      }),
    })),
    usage: usageBody(generations.map(({ usage }) => usage)),
  };
}

function choiceBody(index: number, choice: Choice, echo: Echo | undefined, body: CompletionBody) {
  return {
    index,
    text: (echo?.text ?? "") + choice.text,
    logprobs: typeof body.logprobs === "number"
      ? new CompletionLogprobWriter(namesIds(body)).write([...echo?.logprobs ?? [], ...choice.logprobs])
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

async function echoOf(
  engine: Engine,
  { logprobs: rivals }: CompletionBody,
  prompt: Prompt,
  generation: Generation,
): Promise<Echo> {
  const text = typeof prompt === "string" ? prompt : engine.decode(prompt);
  if (typeof rivals !== "number") return { text, logprobs: null };
  const entries = await generation.promptLogprobs ?? [];
  const logprobs = entries.map((entry, i) => {
    // prompt_logprobs may have asked for more.
    if (entry !== null) return { ...entry, top: entry.top.slice(0, rivals) };
    const token = generation.promptTokenIds[i]!;
    return { token, bytes: engine.tokenBytes(token), logprob: null };
  });
  return { text, logprobs };
}

function echoOpening(engine: Engine, body: CompletionBody) {
  const prompts = promptsOf(body.prompt);
  return async (
    generation: Generation,
    prompt: number,
    writers: readonly CompletionChunkWriter[],
  ): Promise<string> => {
    const { text, logprobs } = await echoOf(engine, body, prompts[prompt]!, generation);
    return writers.map((writer) => writer.echo(text, logprobs)).join("");
  };
}
