/**
 * From the wire's fields to the engine's: pure functions.
 *
 * @module
 */

import { InvalidRequestError } from "../runtime/errors.ts";
import type { ChatMessage, Engine, GenerateRequest, ModelInfo, SamplingParams } from "../runtime/types.ts";
import type { Conversation, PreparedTurn } from "./conversation.ts";
import { ApiError } from "./errors.ts";
import type { ExtraFields } from "./extra_fields.ts";
import { type AliasBody, answerTokens, penaltiesOf } from "./schemas/aliases.ts";
import { beamSearchOf } from "./schemas/beams.ts";
import type { ChatBody, Message } from "./schemas/chat.ts";
import type { CompletionBody, Prompt } from "./schemas/completions.ts";
import { biasesOf } from "./schemas/logit_bias.ts";
import type { RuleBody } from "./schemas/rules.ts";
import type { SamplerBody } from "./schemas/samplers.ts";
import type { SamplingBody } from "./schemas/sampling.ts";
import { constraintOf } from "./schemas/structured.ts";
import { toolsOf } from "./schemas/tools.ts";

/** OpenAI's default length of a plain completion. */
export const DEFAULT_COMPLETION_TOKENS = 16;

/** One engine request per prompt, in order. */
export function completionRequests(body: CompletionBody, signal: AbortSignal): GenerateRequest[] {
  const common = present({
    ...commonFields(body, signal),
    maxTokens: answerTokens(body, body.max_tokens) ?? DEFAULT_COMPLETION_TOKENS,
    logprobs: body.logprobs,
    ...ruleFieldsOf(body),
    beamSearch: beamSearchOf(body),
    ...promptLogprobsOf(body, body.echo ? body.logprobs : null),
    ...constraintOf(body),
  });
  return promptsOf(body.prompt).map((prompt) => ({ ...common, prompt }));
}

/** The body with prompts as token ids, where it asks for less than the engine would make of them. */
export function withExactPrompts(engine: Engine, body: CompletionBody): CompletionBody {
  const { add_special_tokens: special, truncate_prompt_tokens: most } = body;
  if (special !== false && typeof most !== "number") return body;
  const prompt = promptsOf(body.prompt).map((prompt) => {
    const ids = typeof prompt === "string"
      ? engine.encode(prompt, { addSpecialTokens: special ?? true })
      : prompt;
    return lastTokens(ids, most);
  });
  return { ...body, prompt };
}

/** The last `most` tokens, all of them without a limit. */
function lastTokens(ids: readonly number[], most: number | null | undefined): readonly number[] {
  return typeof most === "number" ? ids.slice(-most) : ids;
}

/** The engine's request for a conversation. */
export function chatRequest(
  body: ChatBody,
  { request: prepared }: PreparedTurn,
  signal: AbortSignal,
): GenerateRequest {
  const common = commonFields(body, signal);
  const stop = [...common.stop ?? [], ...prepared.stop ?? []];
  return present({
    ...common,
    ...ruleFieldsOf(body),
    beamSearch: beamSearchOf(body),
    ...promptLogprobsOf(body),
    ...prepared,
    prompt: lastTokens(prepared.prompt, body.truncate_prompt_tokens),
    stop: stop.length > 0 ? stop : undefined,
    maxTokens: answerTokens(body, body.max_completion_tokens ?? body.max_tokens),
    logprobs: body.logprobs ? body.top_logprobs ?? 0 : undefined,
  });
}

/** What a stream's events have beside their own fields. */
export function extraFields(
  body: RuleBody & { return_token_ids?: boolean | null | undefined },
  prompt: ExtraFields["prompt"],
): { extra?: ExtraFields } {
  const tokenIds = body.return_token_ids ?? false;
  const { prompt_logprobs: promptLogprobs } = body;
  if (typeof promptLogprobs === "number") return { extra: { prompt, tokenIds, promptLogprobs } };
  return tokenIds ? { extra: { prompt, tokenIds } } : {};
}

/** Whether log probabilities name tokens by their ids. */
export function namesIds(body: RuleBody): boolean {
  return body.return_tokens_as_token_ids ?? false;
}

/** The fields of a chat's body that make its prompt. */
export function conversationOf(body: Partial<ChatBody> & Pick<ChatBody, "messages">): Conversation {
  const effort = body.reasoning_effort;
  const continues = body.continue_final_message ?? false;
  return {
    ...toolsOf(body),
    messages: body.messages.map(chatMessage),
    parallelToolCalls: body.parallel_tool_calls ?? true,
    variables: { ...(effort && { reasoning_effort: effort }), ...body.chat_template_kwargs },
    addGenerationPrompt: body.add_generation_prompt ?? !continues,
    continueFinalMessage: continues,
    addSpecialTokens: body.add_special_tokens ?? false,
    splitReasoning: body.reasoning_format !== "none",
    answer: constraintOf(body),
  };
}

/** The prompts of a `prompt` field, which is one prompt or an array of them. */
export function promptsOf(prompt: Prompt | readonly Prompt[]): readonly Prompt[] {
  if (typeof prompt === "string" || typeof prompt[0] === "number") return [prompt as Prompt];
  return prompt as readonly Prompt[];
}

/** A message as chat templates know it: its content is one text, a developer is a system, nothing is null. */
export function chatMessage({ role, content, ...rest }: Message): ChatMessage {
  const text = typeof content === "string"
    ? content
    : (content ?? []).map((part) => part.type === "text" ? part.text : part.refusal).join("\n");
  return { ...present(rest), role: role === "developer" ? "system" : role, content: text };
}

/** Refuses a request for a model that is not the served one. Naming none is fine. */
export function requireModel(served: ModelInfo, asked: string | null | undefined): void {
  if (asked === null || asked === undefined || asked === served.id) return;
  throw new ApiError(
    404,
    `The model ${JSON.stringify(asked)} does not exist; this server has "${served.id}".`,
    {
      param: "model",
      code: "model_not_found",
    },
  );
}

/** Refuses a conversation for a model that has no way to render one. */
export function requireChatTemplate(served: ModelInfo): void {
  if (served.hasChatTemplate) return;
  throw new InvalidRequestError(
    `The model "${served.id}" has no chat template; use POST /v1/completions with a prompt.`,
    "messages",
    "no_chat_template",
  );
}

/** The fields of sampling, stopping and scheduling, as the engine knows them. */
export function commonFields(body: Partial<SamplingBody & SamplerBody & AliasBody>, signal: AbortSignal) {
  return {
    sampling: sampling(body),
    stop: typeof body.stop === "string" ? [body.stop] : body.stop,
    stopTokenIds: body.stop_token_ids,
    ignoreEos: body.ignore_eos,
    skipSpecialTokens: body.skip_special_tokens,
    n: body.n,
    priority: body.priority,
    signal,
  };
}

/** What may be sampled, as the engine knows it. */
export function ruleFieldsOf(body: Partial<RuleBody>) {
  return {
    minTokens: body.min_tokens,
    allowedTokenIds: body.allowed_token_ids,
    badWords: body.bad_words,
  };
}

/** How many rivals of the prompt's tokens are wanted, by an echo or for themselves. */
function promptLogprobsOf({ prompt_logprobs: count }: RuleBody, echoed: number | null | undefined = null) {
  if (typeof count !== "number") return { promptLogprobs: echoed };
  return { promptLogprobs: Math.max(count, echoed ?? 0), promptRanks: true };
}

function sampling(body: Partial<SamplingBody & SamplerBody & AliasBody>): SamplingParams {
  // OpenAI allows a nucleus of no mass at all, which can only mean the best token.
  const onlyBest = body.top_p === 0;
  return present({
    temperature: body.temperature,
    topK: onlyBest ? 1 : body.top_k === -1 ? 0 : body.top_k,
    topP: onlyBest ? undefined : body.top_p,
    minP: body.min_p,
    topNSigma: body.top_n_sigma,
    typicalP: body.typical_p,
    xtcProbability: body.xtc_probability,
    xtcThreshold: body.xtc_threshold,
    dynatempRange: body.dynatemp_range,
    dynatempExponent: body.dynatemp_exponent,
    mirostat: body.mirostat as SamplingParams["mirostat"] | null,
    mirostatTau: body.mirostat_tau,
    mirostatEta: body.mirostat_eta,
    dryMultiplier: body.dry_multiplier,
    dryBase: body.dry_base,
    dryAllowedLength: body.dry_allowed_length,
    dryPenaltyLastN: body.dry_penalty_last_n,
    drySequenceBreakers: body.dry_sequence_breakers,
    ...penaltiesOf(body),
    logitBias: body.logit_bias && biasesOf(body.logit_bias),
    seed: body.seed,
  });
}

/** A completion's body with the log probabilities that `n_probs` asks for; its own field goes before. */
export function withProbs(body: CompletionBody): CompletionBody {
  return body.n_probs ? { ...body, logprobs: body.logprobs ?? body.n_probs } : body;
}

/** A chat's body with the same. */
export function withChatProbs(body: ChatBody): ChatBody {
  if (!body.n_probs) return body;
  return { ...body, logprobs: true, top_logprobs: body.top_logprobs ?? body.n_probs };
}

/** The fields that are neither null nor undefined. */
export function present<T extends object>(fields: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== null && value !== undefined),
  ) as { [K in keyof T]?: NonNullable<T[K]> };
}
