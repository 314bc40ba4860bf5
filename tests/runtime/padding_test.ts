import { assertEquals } from "@std/assert";
import { longestBuckets, paddedLength } from "../../runtime/padding.ts";

Deno.test("paddedLength() is the least power of two that holds the tokens, from 64 to the context", () => {
  const found = [1, 64, 65, 128, 129, 1000, 1024, 1025, 1500].map((tokens) => paddedLength(tokens, 1500));
  assertEquals(found, [64, 64, 128, 128, 256, 1024, 1024, 1500, 1500]);
  assertEquals(paddedLength(3, 40), 40);
});

Deno.test("longestBuckets() are those that paddedLength() gives, the longest ones first to be kept", () => {
  assertEquals(longestBuckets(1500, 7), [64, 128, 256, 512, 1024, 1500]);
  assertEquals(longestBuckets(1500, 3), [512, 1024, 1500]);
  assertEquals(longestBuckets(4096, 7), [64, 128, 256, 512, 1024, 2048, 4096]);
  assertEquals(longestBuckets(40, 7), [40]);
  assertEquals(longestBuckets(64, 7), [64]);
  for (const context of [65, 100, 777, 2048]) {
    const all = longestBuckets(context, 20);
    for (let tokens = 1; tokens <= context; tokens++) {
      assertEquals(paddedLength(tokens, context), all.find((bucket) => bucket >= tokens));
    }
  }
});
