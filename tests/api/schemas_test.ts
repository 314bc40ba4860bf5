import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { z } from "zod";
import { chatBody, checkChat } from "../../api/schemas/chat.ts";
import { checkCompletion, completionBody, promptFault } from "../../api/schemas/completions.ts";
import { ruleFields } from "../../api/schemas/rules.ts";
import { toolsOf } from "../../api/schemas/tools.ts";
import type { FunctionTool } from "../../api/tools/formats.ts";
import { describe, fieldName, validate } from "../../api/schemas/validate.ts";
import { InvalidRequestError } from "../../runtime/errors.ts";

const user = { role: "user", content: "hi" };

function completionError(fields: Record<string, unknown>): InvalidRequestError {
  return assertThrows(() => {
    checkCompletion(validate(completionBody, { prompt: "a", ...fields }));
  }, InvalidRequestError);
}

function chatError(fields: Record<string, unknown>): InvalidRequestError {
  return assertThrows(() => {
    checkChat(validate(chatBody, { messages: [user], ...fields }));
  }, InvalidRequestError);
}

/** Fields that no request may have, with the sentence's parts: field, found, wanted. */
const wrong: [fields: Record<string, unknown>, param: string, found: string, wanted: string][] = [
  [{ temperature: "hot" }, "temperature", '"hot"', "a number from 0 to 100"],
  [{ temperature: -1 }, "temperature", "-1", "a number from 0 to 100"],
  [{ top_p: 1.5 }, "top_p", "1.5", "a number from 0 to 1"],
  [{ min_p: true }, "min_p", "true", "a number from 0 to 1"],
  [{ typical_p: 1.1 }, "typical_p", "1.1", "a number from 0 to 1"],
  [{ top_n_sigma: -2 }, "top_n_sigma", "-2", "a number from -1 to 1000"],
  [{ xtc_probability: -0.1 }, "xtc_probability", "-0.1", "a number from 0 to 1"],
  [{ xtc_threshold: "0.1" }, "xtc_threshold", '"0.1"', "a number from 0 to 1"],
  [{ dynatemp_range: -1 }, "dynatemp_range", "-1", "a number from 0 to 100"],
  [{ dynatemp_exponent: 101 }, "dynatemp_exponent", "101", "a number from 0 to 100"],
  [{ dry_multiplier: 101 }, "dry_multiplier", "101", "a number from 0 to 100"],
  [{ dry_base: "2" }, "dry_base", '"2"', "a number from 0 to 100"],
  [{ dry_allowed_length: 1.5 }, "dry_allowed_length", "1.5", "an integer, 0 or more"],
  [{ dry_penalty_last_n: -2 }, "dry_penalty_last_n", "-2", "an integer, -1 or more"],
  [{ dry_sequence_breakers: [] }, "dry_sequence_breakers", "an empty array", "an array of 1 to 64 texts"],
  [{ dry_sequence_breakers: ["a", ""] }, "dry_sequence_breakers[1]", '""', "none of them empty"],
  [{ top_k: 2.5 }, "top_k", "2.5", "an integer"],
  [{ seed: -1 }, "seed", "-1", "an integer from 0 to 9007199254740991"],
  [{ seed: 2 ** 53 }, "seed", "9007199254740992", "an integer from 0 to 9007199254740991"],
  [{ n: 0 }, "n", "0", "an integer from 1 to 128"],
  [{ n: 129 }, "n", "129", "an integer from 1 to 128"],
  [{ max_tokens: -1 }, "max_tokens", "-1", "an integer, "],
  [{ stop: 7 }, "stop", "7", "a text or an array of at most 16 texts"],
  [{ stop: "" }, "stop", '""', "none of them empty"],
  [{ stop: ["a", ""] }, "stop[1]", '""', "none of them empty"],
  [{ stop: Array(17).fill("x") }, "stop", "an array of 17", "at most 16"],
  [{ stop_token_ids: [1, -2] }, "stop_token_ids[1]", "-2", "token ids"],
  [{ presence_penalty: 2.5 }, "presence_penalty", "2.5", "a number from -2 to 2"],
  [{ frequency_penalty: "1" }, "frequency_penalty", '"1"', "a number from -2 to 2"],
  [{ repetition_penalty: 0 }, "repetition_penalty", "0", "a number of more than 0 and at most 10"],
  [{ repetition_penalty: 10.5 }, "repetition_penalty", "10.5", "a number of more than 0 and at most 10"],
  [{ logit_bias: [5, 1] }, "logit_bias[0]", "5", "a token id or a text, and its bias"],
  [{ logit_bias: [[5, 1], [6]] }, "logit_bias[1]", "an array of 1", "a token id or a text, and its bias"],
  [{ logit_bias: [[-5, 1]] }, "logit_bias[0][0]", "-5", "a token id (an integer, 0 or more) or a text"],
  [{ logit_bias: [["", 1]] }, "logit_bias[0][0]", '""', "a token id (an integer, 0 or more) or a text"],
  [{ logit_bias: [[5, true]] }, "logit_bias[0][1]", "true", "a number from -100 to 100, or false"],
  [{ logit_bias: Array(1025).fill([5, 1]) }, "logit_bias", "an array of 1025", "at most 1024 token ids"],
  [{ n_probs: 21 }, "n_probs", "21", "an integer from 0 to 20"],
  [{ n_predict: -2 }, "n_predict", "-2", "or -1 for what the context has left"],
  [{ repeat_penalty: 0 }, "repeat_penalty", "0", "a number of more than 0 and at most 10"],
  [{ repeat_penalty: 1.1, repetition_penalty: 1.2 }, "repeat_penalty", "1.1", "which is 1.2, or absent"],
  [{ repeat_last_n: -2 }, "repeat_last_n", "-2", "an integer, -1 or more"],
  [
    { repeat_last_n: 1025, repeat_penalty: 1.1 },
    "repeat_last_n",
    "1025",
    "at most 1024, or -1 for the whole text",
  ],
  [
    { repeat_last_n: 2000, presence_penalty: 1 },
    "repeat_last_n",
    "2000",
    "at most 1024, or -1 for the whole text",
  ],
  [{ logit_bias: "5" }, "logit_bias", '"5"', "an object of at most 1024 token ids"],
  [{ logit_bias: { five: 1 } }, "logit_bias.five", "1", "absent, because its name is no token id"],
  [{ logit_bias: { "05": 1 } }, "logit_bias.05", "1", "absent, because its name is no token id"],
  [{ logit_bias: { "-5": 1 } }, "logit_bias.-5", "1", "absent, because its name is no token id"],
  [{ logit_bias: { "5": 100.5 } }, "logit_bias.5", "100.5", "a number from -100 to 100"],
  [{ logit_bias: { "5": null } }, "logit_bias.5", "null", "a number from -100 to 100"],
  [{ min_tokens: -1 }, "min_tokens", "-1", "an integer, 0 or more"],
  [{ min_tokens: 1.5 }, "min_tokens", "1.5", "an integer, 0 or more"],
  [{ allowed_token_ids: [] }, "allowed_token_ids", "an empty array", "an array of token ids"],
  [{ allowed_token_ids: "5" }, "allowed_token_ids", '"5"', "an array of token ids"],
  [{ allowed_token_ids: [5, -1] }, "allowed_token_ids[1]", "-1", "an array of token ids"],
  [{ allowed_token_ids: [5, "a", "b"] }, "allowed_token_ids[1]", '"a"', "an array of token ids"],
  [{ bad_words: "fox" }, "bad_words", '"fox"', "an array of at most 1024 texts"],
  [{ bad_words: ["fox", ""] }, "bad_words[1]", '""', "none of them empty"],
  [{ bad_words: Array(1025).fill("x") }, "bad_words", "an array of 1025", "at most 1024"],
  [{ prompt_logprobs: -1 }, "prompt_logprobs", "-1", "an integer from 0 to 20"],
  [{ prompt_logprobs: true }, "prompt_logprobs", "true", "an integer from 0 to 20"],
  [{ return_tokens_as_token_ids: 1 }, "return_tokens_as_token_ids", "1", "true or false"],
  [{ stream: "yes" }, "stream", '"yes"', "true or false"],
  [{ stream: true, stream_options: { include_usage: 1 } }, "stream_options.include_usage", "1", "true or"],
  [{ stream_options: {} }, "stream_options", "an object", "absent unless stream is true"],
  [{ ignore_eos: 1 }, "ignore_eos", "1", "true or false"],
  [{ priority: 1.5 }, "priority", "1.5", "an integer"],
  [{ model: 5 }, "model", "5", "the name of the served model"],
  [{ metadata: [] }, "metadata", "an empty array", "an object"],
  [{ user: {} }, "user", "an object", "a text"],
  [{ use_beam_search: 1 }, "use_beam_search", "1", "true or false"],
  [{ mirostat: 3 }, "mirostat", "3", "0, 1 or 2"],
  [{ mirostat_tau: -1 }, "mirostat_tau", "-1", "a number from 0 to 100"],
  [{ mirostat_eta: 11 }, "mirostat_eta", "11", "a number from 0 to 10"],
  [{ length_penalty: 11 }, "length_penalty", "11", "a number from -10 to 10"],
  [{ use_beam_search: true, stream: true }, "stream", "true", "false or absent with use_beam_search"],
];

for (const [fields, param, found, wanted] of wrong) {
  Deno.test(`validate() names field, found and wanted for ${JSON.stringify(fields)}`, () => {
    for (const error of [completionError(fields), chatError(fields)]) {
      assertEquals(error.param, param);
      assertStringIncludes(error.message, `${param} is ${found}; it must be `);
      assertStringIncludes(error.message, wanted);
    }
  });
}

const unsupported: [field: string, value: unknown, neutral: readonly unknown[]][] = [
  ["logits_processors", ["x"], [[], null]],
];

for (const [field, value, neutral] of unsupported) {
  Deno.test(`validate() takes ${field} only where it asks for nothing`, () => {
    for (const error of [completionError({ [field]: value }), chatError({ [field]: value })]) {
      assertEquals([error.param, error.code], [field, "unsupported_parameter"]);
      assertStringIncludes(error.message, "not supported yet");
    }
    for (const harmless of neutral) {
      validate(completionBody, { prompt: "a", [field]: harmless });
      validate(chatBody, { messages: [user], [field]: harmless });
    }
  });
}

Deno.test("validate() takes penalties and biases up to their limits", () => {
  const most = Object.fromEntries(Array.from({ length: 1024 }, (_, i) => [String(i), i % 2 ? -100 : 100]));
  for (
    const fields of [
      { presence_penalty: -2, frequency_penalty: 2, repetition_penalty: 0.01, logit_bias: most },
      { presence_penalty: 2, frequency_penalty: -2, repetition_penalty: 10, logit_bias: {} },
    ]
  ) {
    const body = validate(chatBody, { messages: [user], ...fields });
    assertEquals(body.logit_bias, fields.logit_bias);
    assertEquals(
      validate(completionBody, { prompt: "a", ...fields }).repetition_penalty,
      fields.repetition_penalty,
    );
  }
  const error = completionError({ logit_bias: { ...most, "1024": 0 } });
  assertEquals([error.param, error.code], ["logit_bias", "invalid_value"]);
});

Deno.test("validate() takes rules of the sampler up to their limits, in both kinds of completion", () => {
  const rules = {
    min_tokens: 7,
    allowed_token_ids: Array.from({ length: 300_000 }, (_, i) => i),
    bad_words: Array.from({ length: 1024 }, (_, i) => `w${i}`),
    prompt_logprobs: 20,
    return_tokens_as_token_ids: true,
  };
  const none = { min_tokens: 0, bad_words: [], prompt_logprobs: 0, return_tokens_as_token_ids: false };
  for (const fields of [rules, none]) {
    for (
      const body of [
        validate(chatBody, { messages: [user], ...fields }),
        validate(completionBody, { prompt: "a", ...fields }),
      ]
    ) {
      for (const [name, value] of Object.entries(fields)) {
        assertEquals(body[name as keyof typeof body], value);
      }
    }
  }
  assertEquals(ruleFields.allowed_token_ids.safeParse([1, 2, 2 ** 53]).success, false);
});

const weather = { type: "function", function: { name: "weather" } };

Deno.test("validate() refuses suffix, functions and tools that it cannot have, each by name", () => {
  assertEquals(completionError({ suffix: "end" }).param, "suffix");
  assertEquals(chatError({ tools: [{ type: "function" }] }).param, "tools[0].function");
  assertEquals(chatError({ tools: [{ type: "custom", custom: {} }] }).param, "tools[0].type");
  assertStringIncludes(completionError({ suffix: "end" }).message, "fills in the middle");
  assertEquals(chatError({ functions: [{ name: "f" }] }).param, "functions");
  assertStringIncludes(chatError({ functions: [{ name: "f" }] }).message, "use tools");
  validate(completionBody, { prompt: "a", suffix: "" });
  validate(chatBody, { messages: [user], tools: [], tool_choice: "none", functions: null });
});

Deno.test("checkChat() refuses a choice of no tool and a turn that both begins and goes on", () => {
  const named = { type: "function", function: { name: "f" } };
  for (const tool_choice of ["required", named, { type: "function" }, "any"]) {
    assertEquals(chatError({ tool_choice }).param, "tool_choice");
  }
  assertStringIncludes(chatError({ tools: [weather], tool_choice: named }).message, '"weather"');
  const both = { continue_final_message: true, add_generation_prompt: true };
  assertEquals(chatError(both).param, "continue_final_message");
});

Deno.test("toolsOf() gives the allowed tools alone", () => {
  const other = { type: "function", function: { name: "other" } };
  const allowed_tools = { mode: "required", tools: [weather] };
  const tool_choice = { type: "allowed_tools", allowed_tools };
  const body = validate(chatBody, { messages: [user], tools: [weather, other], tool_choice });
  assertEquals(toolsOf(body), { tools: [weather as FunctionTool], toolChoice: "required" });
});

Deno.test("validate() ignores fields that it does not know", () => {
  const body = validate(chatBody, { messages: [user], service_tier: "auto", whatever: { deep: [1] } });
  assertEquals("whatever" in body, false);
});

Deno.test("validate() takes null for every optional field", () => {
  for (
    const [name, schema, needed] of [
      ["completions", completionBody, { prompt: "a" }],
      ["chat", chatBody, { messages: [user] }],
    ] as const
  ) {
    for (const field of Object.keys(schema.shape)) {
      if (field in needed) continue;
      assert(schema.safeParse({ ...needed, [field]: null }).success, `${name}: ${field}`);
    }
  }
});

Deno.test("validate() says that a needed field is missing", () => {
  const error = assertThrows(() => validate(completionBody, {}), InvalidRequestError);
  assertEquals([error.param, error.code], ["prompt", "missing_required_parameter"]);
  assertStringIncludes(error.message, "prompt is missing; it must be a text");
  assertStringIncludes(assertThrows(() => validate(chatBody, {}), Error).message, "messages is missing");
});

Deno.test("validate() refuses a body that is no object", () => {
  for (const body of [null, 1, "x", []]) {
    const error = assertThrows(() => validate(chatBody, body), InvalidRequestError);
    assertEquals(error.param, null);
    assertStringIncludes(error.message, `The request body is ${describe(body)}; it must be a JSON object`);
  }
});

const prompts: [prompt: unknown, param: string, found: string][] = [
  [7, "prompt", "7"],
  [null, "prompt", "null"],
  [[], "prompt", "an empty array"],
  [[1, "a"], "prompt[1]", '"a"'],
  [[1, -1], "prompt[1]", "-1"],
  [[1.5], "prompt[0]", "1.5"],
  [["a", 1], "prompt[1]", "1"],
  [[[1], []], "prompt[1]", "an empty array"],
  [[[1], [2, "a"]], "prompt[1][1]", '"a"'],
  [[{}], "prompt[0]", "an object"],
  [Array(1025).fill("a"), "prompt", "an array of 1025"],
];

for (const [prompt, param, found] of prompts) {
  Deno.test(`validate() refuses a prompt at ${param} that is ${found}`, () => {
    const error = completionError({ prompt });
    assertEquals(error.param, param);
    assertStringIncludes(error.message, `${param} is ${found}; it must be `);
  });
}

Deno.test("promptFault() accepts text, ids, and arrays of either", () => {
  const ids = fc.array(fc.nat(), { minLength: 1 });
  const texts = fc.array(fc.string(), { minLength: 1 });
  const any = fc.oneof(fc.string(), ids, texts, fc.array(ids, { minLength: 1 }));
  fc.assert(fc.property(any, (prompt) => assertEquals(promptFault(prompt), null)));
});

Deno.test("promptFault() points at a value that is wrong, whatever the prompt", () => {
  fc.assert(fc.property(fc.jsonValue({ maxDepth: 3 }), (prompt) => {
    const fault = promptFault(prompt);
    if (fault === null) return;
    let value: unknown = prompt;
    for (const index of fault.path) value = (value as unknown[])[index];
    assert(value !== undefined, JSON.stringify({ prompt, fault }));
  }));
});

/** Issues, and those of the alternatives within them. */
function issuesOf(issues: readonly z.core.$ZodIssue[]): number {
  return issues.reduce(
    (sum, issue) =>
      sum + 1 +
      (issue.code === "invalid_union" ? issue.errors.reduce((all, some) => all + issuesOf(some), 0) : 0),
    0,
  );
}

Deno.test("validate() makes few issues of a body of many faults", () => {
  const bodies = [
    [completionBody, { prompt: Array(1e5).fill(-1) }],
    [completionBody, { prompt: "a", stop: Array(1e5).fill(1) }],
    [chatBody, { messages: Array(1e5).fill({}) }],
  ] as const;
  for (const [schema, body] of bodies) {
    const { error } = schema.safeParse(body);
    const count = issuesOf(error!.issues);
    assert(count < 100, `${count} issues`);
  }
});

const messages: [message: unknown, param: string, found: string, wanted: string][] = [
  ["hi", "messages[0]", '"hi"', "a message"],
  [{ content: "hi" }, "messages[0].role", "missing", '"user"'],
  [{ role: "robot", content: "hi" }, "messages[0].role", '"robot"', '"user"'],
  [{ role: "user" }, "messages[0].content", "missing", "a text or an array of parts"],
  [{ role: "system", content: null }, "messages[0].content", "null", "a text or an array of parts"],
  [{ role: "user", content: 5 }, "messages[0].content", "5", "a text or an array of parts"],
  [{ role: "user", content: [] }, "messages[0].content", "an empty array", "a text or an array of parts"],
  [
    { role: "user", content: [{ type: "image_url", image_url: {} }] },
    "messages[0].content[0].type",
    '"image_url"',
    '"text"',
  ],
  [{ role: "user", content: [{ type: "text" }] }, "messages[0].content[0].text", "missing", "a text"],
];

for (const [message, param, found, wanted] of messages) {
  Deno.test(`validate() refuses the message ${JSON.stringify(message)}`, () => {
    const error = chatError({ messages: [message] });
    assertEquals(error.param, param);
    assertStringIncludes(error.message, `${param} is ${found}; it must be `);
    assertStringIncludes(error.message, wanted);
  });
}

Deno.test("validate() takes every role, text parts and a silent assistant", () => {
  const tool_calls = [{ id: "1", function: { name: "f", arguments: "{}" } }];
  const body = validate(chatBody, {
    messages: [
      { role: "system", content: "s" },
      { role: "developer", content: [{ type: "text", text: "d" }] },
      { role: "user", content: "u", name: "someone" },
      { role: "assistant", content: null, tool_calls },
      { role: "tool", content: "t", tool_call_id: "1" },
    ],
  });
  assertEquals(body.messages[3]!.tool_calls, tool_calls);
});

Deno.test("checkChat() wants logprobs for top_logprobs", () => {
  assertEquals(chatError({ top_logprobs: 3 }).param, "top_logprobs");
  assertEquals(chatError({ top_logprobs: 21, logprobs: true }).param, "top_logprobs");
  checkChat(validate(chatBody, { messages: [user], top_logprobs: 20, logprobs: true }));
  checkChat(validate(chatBody, { messages: [user], top_logprobs: 0 }));
});

Deno.test("checkCompletion() takes best_of only where it equals n", () => {
  const error = completionError({ best_of: 3, n: 2 });
  assertEquals([error.param, error.code], ["best_of", "unsupported_parameter"]);
  assertStringIncludes(error.message, "best_of is 3; it must be the same as n, which is 2");
  for (const fields of [{ best_of: 1 }, { best_of: 2, n: 2 }, { best_of: null, n: 2 }]) {
    checkCompletion(validate(completionBody, { prompt: "a", ...fields }));
  }
});

Deno.test("validate() takes max_tokens 0 for a completion, not for a chat", () => {
  assertEquals(validate(completionBody, { prompt: "a", max_tokens: 0 }).max_tokens, 0);
  assertEquals(chatError({ max_tokens: 0 }).param, "max_tokens");
  assertEquals(chatError({ max_completion_tokens: 0 }).param, "max_completion_tokens");
});

Deno.test("completionBody and chatBody have a JSON schema with the kinds of prompt and of content", () => {
  const schema = z.toJSONSchema(completionBody, { io: "output", unrepresentable: "any" });
  const prompt = schema.properties?.prompt as { anyOf: unknown[] };
  assertEquals(prompt.anyOf.length, 4);
  assertEquals(schema.required?.includes("prompt"), true);
  assertStringIncludes(JSON.stringify(z.toJSONSchema(chatBody)), '"developer"');
});

Deno.test("describe() is short for any value", () => {
  assertEquals([undefined, null, 1.5, "a", [], [1, 2], {}].map(describe), [
    "undefined",
    "null",
    "1.5",
    '"a"',
    "an empty array",
    "an array of 2",
    "an object",
  ]);
  fc.assert(fc.property(fc.anything(), (value) => assert(describe(value).length < 1000)));
});

Deno.test("fieldName() writes indexes in brackets", () => {
  assertEquals(fieldName(["messages", 2, "content", 0, "type"]), "messages[2].content[0].type");
  assertEquals(fieldName([]), null);
});
