import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { chatBody } from "../../api/schemas/chat.ts";
import { completionBody } from "../../api/schemas/completions.ts";
import { atRest, CANNOT_CHAT, CANNOT_RUN, type Service, startService } from "./service.ts";

const needed = { ignore: CANNOT_RUN };

let service: Service;
Deno.test.beforeAll(async () => {
  if (!CANNOT_RUN) service = await startService({ slots: 4 });
});
Deno.test.afterAll(async () => await service?.[Symbol.asyncDispose]());

const message = fc.record({
  role: fc.constantFrom("system", "developer", "user", "assistant", "tool"),
  content: fc.oneof(fc.string({ unit: "binary" }), fc.constant([{ type: "text", text: "hi" }])),
});

/** Values that a field may well take, for fields that random JSON would never get right. */
const plausible: Record<string, fc.Arbitrary<unknown>> = {
  prompt: fc.oneof(
    fc.string({ unit: "binary", minLength: 1 }),
    fc.array(fc.nat(600), { minLength: 1 }),
    fc.array(fc.string(), { minLength: 1, maxLength: 3 }),
  ),
  messages: fc.array(message, { minLength: 1, maxLength: 4 }),
  max_tokens: fc.integer({ min: 0, max: 4 }),
  max_completion_tokens: fc.integer({ min: 1, max: 4 }),
  temperature: fc.double({ min: 0, max: 100, noNaN: true }),
  top_p: fc.double({ min: 0, max: 1, noNaN: true }),
  min_p: fc.double({ min: 0, max: 1, noNaN: true }),
  typical_p: fc.double({ min: 0, max: 1, noNaN: true }),
  top_n_sigma: fc.double({ min: -1, max: 9, noNaN: true }),
  xtc_probability: fc.double({ min: 0, max: 1, noNaN: true }),
  xtc_threshold: fc.double({ min: 0, max: 1, noNaN: true }),
  dynatemp_range: fc.double({ min: 0, max: 100, noNaN: true }),
  dynatemp_exponent: fc.double({ min: 0, max: 100, noNaN: true }),
  dry_multiplier: fc.double({ min: 0, max: 100, noNaN: true }),
  dry_base: fc.double({ min: 0, max: 100, noNaN: true }),
  dry_allowed_length: fc.nat(5),
  dry_penalty_last_n: fc.integer({ min: -1, max: 100 }),
  dry_sequence_breakers: fc.array(fc.string({ minLength: 1 }), { minLength: 1, maxLength: 4 }),
  n_predict: fc.integer({ min: 1, max: 4 }),
  n_probs: fc.nat(20),
  repeat_penalty: fc.double({ min: 0.1, max: 10, noNaN: true }),
  repeat_last_n: fc.constantFrom(-1, 0, 1, 64),
  logit_bias: fc.array(
    fc.tuple(fc.oneof(fc.nat(400), fc.string({ minLength: 1 })), fc.oneof(fc.nat(100), fc.constant(false))),
    { maxLength: 5 },
  ),
  top_k: fc.integer({ min: -1, max: 5000 }),
  seed: fc.maxSafeNat(),
  n: fc.integer({ min: 1, max: 3 }),
  stop: fc.oneof(fc.string({ minLength: 1 }), fc.array(fc.string({ minLength: 1 }), { maxLength: 3 })),
  stop_token_ids: fc.array(fc.nat(600), { maxLength: 3 }),
  logprobs: fc.oneof(fc.integer({ min: 0, max: 20 }), fc.boolean()),
  top_logprobs: fc.integer({ min: 0, max: 20 }),
  stream: fc.boolean(),
  echo: fc.boolean(),
  model: fc.constant(null),
  tools: fc.constant([{ type: "function", function: { name: "f", parameters: { type: "object" } } }]),
  tool_choice: fc.constantFrom("none", "auto"),
  parallel_tool_calls: fc.boolean(),
  include_stop_str_in_output: fc.boolean(),
  truncate_prompt_tokens: fc.integer({ min: 1, max: 40 }),
};

/** Bodies with a few of a schema's fields: mostly plausible, now and then anything. */
function bodies(fields: readonly string[], always: readonly string[]): fc.Arbitrary<Record<string, unknown>> {
  const anything = fc.jsonValue({ maxDepth: 2 });
  const value = (field: string) => {
    const likely = plausible[field] ?? fc.constant(null);
    return fc.oneof({ weight: 119, arbitrary: likely }, { weight: 1, arbitrary: anything });
  };
  const model = Object.fromEntries(fields.map((field) => [field, value(field)]));
  return fc.record(model, { requiredKeys: [...always] });
}

for (
  const [path, shape, always] of [
    ["/v1/completions", completionBody.shape, ["prompt", "max_tokens"]],
    ["/v1/chat/completions", chatBody.shape, ["messages", "max_tokens"]],
  ] as const
) {
  Deno.test(`POST ${path} answers any body with an answer or a 400 that names a field`, needed, async () => {
    let answered = 0;
    const property = fc.asyncProperty(bodies(Object.keys(shape), always), async (body) => {
      const response = await service.post(path, body);
      const text = await response.text();
      if (response.status === 200) {
        answered++;
        const type = response.headers.get("content-type");
        assertEquals(type?.split(";")[0], body.stream ? "text/event-stream" : "application/json");
        assert(body.stream ? text.endsWith("data: [DONE]\n\n") : JSON.parse(text).choices.length > 0, text);
        return;
      }
      const { error } = JSON.parse(text);
      assert([400, 404].includes(response.status), `${response.status} ${text} for ${JSON.stringify(body)}`);
      assert(typeof error.param === "string" && error.message.length > 10, text);
    });
    await fc.assert(property, { numRuns: 400 });
    assert(answered > 10 || (CANNOT_CHAT && path !== "/v1/completions"), `${answered} answers`);
    await atRest(service.engine);
  });
}
