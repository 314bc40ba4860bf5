import { assertEquals, assertThrows } from "@std/assert";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { checkRequest, type RequestLimits } from "../../runtime/request.ts";
import type { GenerateRequest, SamplingParams } from "../../runtime/types.ts";

const limits: RequestLimits = {
  maxContext: 100,
  vocab: 500,
  defaults: { temperature: 0.6, topP: 0.9 },
  eosTokenIds: [2],
  masks: true,
  breakers: () => {
    throw new Error("no request here has any");
  },
  encode: (text) => [...text].map((letter) => letter.charCodeAt(0)),
};

function refuses(request: GenerateRequest, prompt: number[], message: string): void {
  const error = assertThrows(() => checkRequest(request, prompt, limits), InvalidRequestError);
  assertEquals(error.message, message);
}

Deno.test("checkRequest() fills in the model's defaults, then the field's", () => {
  const { base, n } = checkRequest({}, [1, 2, 3], limits);
  assertEquals([base.temperature, base.topP, base.topK, base.minP, n], [0.6, 0.9, 0, 0, 1]);
  assertEquals(base.maxTokens, 97);
  assertEquals([...base.stopTokens], [2]);
});

Deno.test("checkRequest() cuts max_tokens to what the context has left", () => {
  assertEquals(checkRequest({ maxTokens: 1000 }, [1, 2], limits).base.maxTokens, 98);
});

Deno.test("checkRequest() refuses a prompt that leaves no room, naming both numbers", () => {
  const prompt = new Array<number>(100).fill(1);
  refuses(
    {},
    prompt,
    "the prompt has 100 tokens, but the context holds 100, the answer included",
  );
  assertEquals(checkRequest({ maxTokens: 0 }, prompt, limits).base.maxTokens, 0);
});

Deno.test("checkRequest() names field, value found and value wanted", () => {
  refuses({ n: 0 }, [1], "n is 0, wanted an integer from 1 to 128");
  refuses({ sampling: { temperature: -1 } }, [1], "temperature is -1, wanted a number from 0 to 100");
  refuses({ sampling: { topP: 0 } }, [1], "top_p is 0, wanted a number from more than 0 to 1");
  refuses({ sampling: { minP: NaN } }, [1], "min_p is NaN, wanted a number from 0 to 1");
  refuses({ sampling: { typicalP: 2 } }, [1], "typical_p is 2, wanted a number from 0 to 1");
  refuses({ sampling: { topNSigma: NaN } }, [1], "top_n_sigma is NaN, wanted a number from -1 to 1000");
  refuses(
    { sampling: { xtcProbability: 1.5 } },
    [1],
    "xtc_probability is 1.5, wanted a number from 0 to 1",
  );
  refuses({ sampling: { xtcThreshold: -1 } }, [1], "xtc_threshold is -1, wanted a number from 0 to 1");
  refuses(
    { sampling: { dynatempExponent: 101 } },
    [1],
    "dynatemp_exponent is 101, wanted a number from 0 to 100",
  );
  refuses(
    { sampling: { seed: 0.5 } },
    [1],
    `seed is 0.5, wanted an integer from 0 to ${Number.MAX_SAFE_INTEGER}`,
  );
  refuses({ logprobs: 21 }, [1], "logprobs is 21, wanted an integer from 0 to 20");
  refuses(
    { sampling: { presencePenalty: 2.1 } },
    [1],
    "presence_penalty is 2.1, wanted a number from -2 to 2",
  );
  refuses(
    { sampling: { frequencyPenalty: NaN } },
    [1],
    "frequency_penalty is NaN, wanted a number from -2 to 2",
  );
  refuses(
    { sampling: { repetitionPenalty: 0 } },
    [1],
    "repetition_penalty is 0, wanted a number from more than 0 to 10",
  );
  const bias = (...logitBias: [number | string, number][]) => ({ sampling: { logitBias } });
  const ids = "wanted integers from 0 to 499";
  refuses(bias([500, 1]), [1], `logit_bias contains the token id 500, ${ids}`);
  refuses(bias([0.5, 1]), [1], `logit_bias contains the token id 0.5, ${ids}`);
  refuses(bias([3, 101]), [1], "logit_bias of token 3 is 101, wanted a number from -100 to 100");
  refuses(bias(["ab", -101]), [1], 'logit_bias of "ab" is -101, wanted a number from -100 to 100');
  refuses(bias([3, Infinity]), [1], "logit_bias of token 3 is Infinity, wanted a number from -100 to 100");
  refuses(bias([3, NaN]), [1], "logit_bias of token 3 is NaN, wanted a number from -100 to 100");
  const many = String.fromCharCode(...Array.from({ length: 1025 }, (_, i) => i));
  const error = assertThrows(
    () => checkRequest(bias([many, 1]), [1], { ...limits, vocab: 2000 }),
    InvalidRequestError,
  );
  assertEquals(error.message, "logit_bias has 1025 tokens, wanted at most 1024");
  refuses({}, [], "prompt is empty, wanted at least one token");
  refuses({}, [500], "prompt contains the token id 500, wanted integers from 0 to 499");
  refuses({}, [1.5], "prompt contains the token id 1.5, wanted integers from 0 to 499");
});

Deno.test("checkRequest() keeps penalties within what the library takes, and biases in their order", () => {
  const { base } = checkRequest(
    { sampling: { repetitionPenalty: 1e-300, logitBias: [[7, -1.5], [3, 100]] } },
    [1],
    limits,
  );
  assertEquals(Math.fround(base.repetitionPenalty) > 0, true);
  assertEquals([[...base.biasTokens], [...base.biasValues]], [[7, 3], [-1.5, 100]]);
  const added = checkRequest({ sampling: { logitBias: [["ba", 2], [97, 1], [5, -Infinity]] } }, [1], limits);
  assertEquals([[...added.base.biasTokens], [...added.base.biasValues]], [[98, 97, 5], [2, 3, -Infinity]]);
  const plain = checkRequest({}, [1], limits).base;
  assertEquals([plain.presencePenalty, plain.frequencyPenalty, plain.repetitionPenalty], [0, 0, 1]);
});

Deno.test("checkRequest() leaves llama.cpp's samplers out where none would do anything", () => {
  const samplers = (sampling: SamplingParams) => checkRequest({ sampling }, [1], limits).base.samplers;
  assertEquals(samplers({}), null);
  assertEquals(samplers({ typicalP: 1, topNSigma: -1, xtcProbability: 0, xtcThreshold: 0.3 }), null);
  assertEquals(samplers({ xtcProbability: 0.5 }), {
    topNSigma: 0,
    typicalP: 0,
    xtcProbability: 0.5,
    xtcThreshold: 0.1,
    dynatempRange: 0,
    dynatempExponent: 1,
  });
  // 0 is off in the descriptor, and the least in a request.
  assertEquals(Math.fround(samplers({ typicalP: 0 })!.typicalP) > 0, true);
  assertEquals(samplers({ topNSigma: 0 }), null);
});

Deno.test("checkRequest() gives choice i the seed plus i, in two halves", () => {
  const { seed } = checkRequest({ n: 2, sampling: { seed: 2 ** 32 - 1 } }, [1], limits);
  assertEquals(seed(0), { seedLo: 2 ** 32 - 1, seedHi: 0 });
  assertEquals(seed(1), { seedLo: 0, seedHi: 1 });
});

Deno.test("checkRequest() leaves out the model's end tokens with ignoreEos, not the request's", () => {
  const { base } = checkRequest({ ignoreEos: true, stopTokenIds: [7] }, [1], limits);
  assertEquals([...base.stopTokens], [7]);
});
