import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { ApiError } from "../../api/errors.ts";
import {
  chatMessage,
  chatRequest,
  completionRequests,
  conversationOf,
  promptsOf,
  requireChatTemplate,
  requireModel,
  withExactPrompts,
} from "../../api/requests.ts";
import { chatBody } from "../../api/schemas/chat.ts";
import { completionBody } from "../../api/schemas/completions.ts";
import { validate } from "../../api/schemas/validate.ts";
import { InvalidRequestError } from "../../runtime/errors.ts";
import type { Engine, GenerateRequest, ModelInfo } from "../../runtime/types.ts";

const signal = new AbortController().signal;

function completions(fields: Record<string, unknown>) {
  return completionRequests(validate(completionBody, fields), signal);
}

function chat(fields: Record<string, unknown>) {
  const body = validate(chatBody, { messages: [{ role: "user", content: "hi" }], ...fields });
  return chatRequest(body, { request: { prompt: [7] }, newParser: null }, signal);
}

const model: ModelInfo = {
  id: "tiny",
  created: 0,
  architecture: "llama",
  dtype: "bf16",
  parameters: 1,
  vocabSize: 2,
  maxContext: 3,
  hasChatTemplate: false,
  chatTemplate: "",
};

Deno.test("completionRequests() leaves to the engine what the body leaves out, but for OpenAI's length", () => {
  assertEquals(completions({ prompt: "a" }), [{ prompt: "a", maxTokens: 16, sampling: {}, signal }]);
});

Deno.test("completionRequests() maps every field", () => {
  const [request] = completions({
    prompt: [1, 2],
    max_tokens: 5,
    temperature: 0.5,
    top_p: 0.9,
    top_k: 40,
    min_p: 0.1,
    top_n_sigma: 1.5,
    typical_p: 0.7,
    xtc_probability: 0.5,
    xtc_threshold: 0.2,
    dynatemp_range: 0.4,
    dynatemp_exponent: 2,
    dry_multiplier: 0.8,
    dry_base: 1.5,
    dry_allowed_length: 3,
    dry_penalty_last_n: 64,
    dry_sequence_breakers: ["\n"],
    presence_penalty: 0.5,
    frequency_penalty: -0.5,
    repetition_penalty: 1.1,
    logit_bias: { 7: -100, 12: 1.5 },
    seed: 7,
    stop: "end",
    stop_token_ids: [3],
    ignore_eos: true,
    n: 2,
    logprobs: 3,
    echo: true,
    priority: -1,
    user: "u",
    metadata: { a: "b" },
  });
  assertEquals(request, {
    prompt: [1, 2],
    maxTokens: 5,
    sampling: {
      temperature: 0.5,
      topP: 0.9,
      topK: 40,
      minP: 0.1,
      topNSigma: 1.5,
      typicalP: 0.7,
      xtcProbability: 0.5,
      xtcThreshold: 0.2,
      dynatempRange: 0.4,
      dynatempExponent: 2,
      dryMultiplier: 0.8,
      dryBase: 1.5,
      dryAllowedLength: 3,
      dryPenaltyLastN: 64,
      drySequenceBreakers: ["\n"],
      presencePenalty: 0.5,
      frequencyPenalty: -0.5,
      repetitionPenalty: 1.1,
      logitBias: [[7, -100], [12, 1.5]],
      seed: 7,
    },
    stop: ["end"],
    stopTokenIds: [3],
    ignoreEos: true,
    n: 2,
    logprobs: 3,
    promptLogprobs: 3,
    priority: -1,
    signal,
  });
});

Deno.test("completionRequests() and chatRequest() take llama.cpp's names", () => {
  const both = (fields: Record<string, unknown>) => {
    const requests = [completions({ prompt: "a", ...fields })[0]!, chat(fields)];
    return requests.map(({ maxTokens, sampling }) => ({ maxTokens, sampling }));
  };
  for (const { maxTokens, sampling } of both({ n_predict: 5, max_tokens: 9, repeat_penalty: 1.2 })) {
    assertEquals([maxTokens, sampling], [5, { repetitionPenalty: 1.2 }]);
  }
  for (const { maxTokens } of both({ n_predict: -1, max_tokens: 9 })) assertEquals(maxTokens, 2 ** 31 - 1);
  const penalties = { repeat_penalty: 1.2, presence_penalty: 1, frequency_penalty: 1 };
  for (const { sampling } of both({ ...penalties, repeat_last_n: 0 })) assertEquals(sampling, {});
  for (const { sampling } of both({ repeat_last_n: 6400, repeat_penalty: 1 })) {
    assertEquals(sampling, { repetitionPenalty: 1 });
  }
  for (const { sampling } of both({ repeat_last_n: 64, repeat_penalty: 1.5 })) {
    assertEquals(sampling, { repetitionPenalty: 1.5, penaltyLastN: 64 });
  }
  for (const { sampling } of both({ repeat_last_n: -1, repeat_penalty: 1.5 })) {
    assertEquals(sampling, { repetitionPenalty: 1.5 });
  }
  for (const { sampling } of both({ logit_bias: [[5, 1], ["fox", -2.5], [6, false]] })) {
    assertEquals(sampling, { logitBias: [[5, 1], ["fox", -2.5], [6, -Infinity]] });
  }
  for (const { sampling } of both({ logit_bias: { 5: 1, 6: false } })) {
    assertEquals(sampling, { logitBias: [[5, 1], [6, -Infinity]] });
  }
});

Deno.test("completionRequests() makes one request per prompt, in order", () => {
  const prompts = (prompt: unknown) => completions({ prompt }).map((request) => request.prompt);
  assertEquals(prompts("a"), ["a"]);
  assertEquals(prompts(["a", "b"]), ["a", "b"]);
  assertEquals(prompts([1, 2]), [[1, 2]]);
  assertEquals(prompts([[1, 2], [3]]), [[1, 2], [3]]);
  assertEquals(promptsOf(""), [""]);
});

Deno.test("completionRequests() asks for the prompt's log probabilities only to echo them", () => {
  assertEquals(completions({ prompt: "a", logprobs: 0 })[0]!.promptLogprobs, undefined);
  assertEquals(completions({ prompt: "a", echo: true })[0]!.promptLogprobs, undefined);
  assertEquals(completions({ prompt: "a", echo: true, logprobs: 0 })[0]!.promptLogprobs, 0);
});

Deno.test("completionRequests() and chatRequest() hand on the rules of the sampler", () => {
  const rules = { min_tokens: 3, allowed_token_ids: [5, 6], bad_words: ["fox"] };
  const wanted = { minTokens: 3, allowedTokenIds: [5, 6], badWords: ["fox"] };
  for (const request of [completions({ prompt: "a", ...rules })[0]!, chat(rules)]) {
    const { minTokens, allowedTokenIds, badWords } = request;
    assertEquals({ minTokens, allowedTokenIds, badWords }, wanted);
  }
});

Deno.test("completionRequests() and chatRequest() ask for prompt_logprobs with their ranks", () => {
  const scores = ({ promptLogprobs, promptRanks }: GenerateRequest) => [promptLogprobs, promptRanks];
  const ask = (fields: Record<string, unknown>) => scores(completions({ prompt: "a", ...fields })[0]!);
  assertEquals(ask({ prompt_logprobs: 0 }), [0, true]);
  assertEquals(ask({ prompt_logprobs: 2, logprobs: 5 }), [2, true]);
  assertEquals(ask({ prompt_logprobs: 2, logprobs: 5, echo: true }), [5, true]);
  assertEquals(ask({ logprobs: 5, echo: true }), [5, undefined]);
  assertEquals(scores(chat({ prompt_logprobs: 4 })), [4, true]);
  assertEquals(scores(chat({ logprobs: true })), [undefined, undefined]);
});

Deno.test("completionRequests() reads top_k -1 as all tokens and top_p 0 as the best one", () => {
  assertEquals(completions({ prompt: "a", top_k: -1 })[0]!.sampling, { topK: 0 });
  assertEquals(completions({ prompt: "a", top_p: 0, top_k: 40 })[0]!.sampling, { topK: 1 });
});

Deno.test("withExactPrompts() leaves prompts alone unless their special tokens or length are asked for", () => {
  const engine = {
    encode: (text: string, { addSpecialTokens }: { addSpecialTokens: boolean }) =>
      addSpecialTokens ? [0, ...text].map(Number) : [...text].map(Number),
  } as unknown as Engine;
  const exact = (fields: Record<string, unknown>) =>
    withExactPrompts(engine, validate(completionBody, fields)).prompt;
  assertEquals(exact({ prompt: "123" }), "123");
  assertEquals(exact({ prompt: "123", add_special_tokens: false }), [[1, 2, 3]]);
  assertEquals(exact({ prompt: ["123", "4"], truncate_prompt_tokens: 2 }), [[2, 3], [0, 4]]);
  assertEquals(exact({ prompt: [5, 6, 7], truncate_prompt_tokens: 1 }), [[7]]);
});

Deno.test("chatRequest() leaves the length to the context", () => {
  assertEquals(chat({}), { prompt: [7], sampling: {}, signal });
});

Deno.test("chatRequest() prefers max_completion_tokens to max_tokens", () => {
  assertEquals(chat({ max_tokens: 5 }).maxTokens, 5);
  assertEquals(chat({ max_tokens: 5, max_completion_tokens: 6 }).maxTokens, 6);
});

Deno.test("chatRequest() maps logprobs and top_logprobs to one count", () => {
  assertEquals(chat({ logprobs: true }).logprobs, 0);
  assertEquals(chat({ logprobs: true, top_logprobs: 4 }).logprobs, 4);
  assertEquals(chat({ logprobs: false, top_logprobs: 0 }).logprobs, undefined);
});

Deno.test("chatMessage() joins text parts, renames the developer and keeps other fields", () => {
  const parts = [{ type: "text" as const, text: "a" }, { type: "text" as const, text: "b" }];
  assertEquals(chatMessage({ role: "developer", content: parts }), { role: "system", content: "a\nb" });
  assertEquals(chatMessage({ role: "tool", content: "x", tool_call_id: "1" }), {
    role: "tool",
    content: "x",
    tool_call_id: "1",
  });
  assertEquals(chatMessage({ role: "assistant", content: null }), { role: "assistant", content: "" });
});

Deno.test("requireModel() answers 404 with both names, and takes the served name or none", () => {
  const error = assertThrows(() => requireModel(model, "gpt-4"), ApiError);
  assertEquals([error.status, error.code, error.param], [404, "model_not_found", "model"]);
  assertStringIncludes(error.message, '"gpt-4"');
  assertStringIncludes(error.message, '"tiny"');
  for (const asked of ["tiny", null, undefined]) requireModel(model, asked);
});

Deno.test("requireChatTemplate() says that the model has none", () => {
  const error = assertThrows(() => requireChatTemplate(model), InvalidRequestError);
  assertStringIncludes(error.message, 'The model "tiny" has no chat template');
  requireChatTemplate({ ...model, hasChatTemplate: true });
});

Deno.test("chatRequest() adds what the turn needs to what the body asks", () => {
  const body = validate(chatBody, { messages: [{ role: "user", content: "hi" }], stop: "end" });
  const request = { prompt: [7], stop: ["</tool_call>"], skipSpecialTokens: false };
  assertEquals(chat({ truncate_prompt_tokens: 5 }).prompt, [7]);
  const { stop, skipSpecialTokens } = chatRequest(body, { request, newParser: null }, signal);
  assertEquals([stop, skipSpecialTokens], [["end", "</tool_call>"], false]);
});

Deno.test("conversationOf() begins a new turn unless the last one shall go on", () => {
  const conversation = (fields: Record<string, unknown>) =>
    conversationOf(validate(chatBody, { messages: [{ role: "user", content: "hi" }], ...fields }));
  assertEquals(conversation({}).addGenerationPrompt, true);
  const continued = conversation({ continue_final_message: true });
  assertEquals([continued.addGenerationPrompt, continued.continueFinalMessage], [false, true]);
  const { variables } = conversation({ reasoning_effort: "low", chat_template_kwargs: { x: 1 } });
  assertEquals(variables, { reasoning_effort: "low", x: 1 });
});
