import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { grammarOf } from "../../runtime/grammar/constraint.ts";
import { Walker } from "./walk.ts";

const WORD = grammarOf({ type: "regex", pattern: "[a-z]{12}" });

Deno.test("GrammarService refuses what is no grammar, with the reason and its place, and goes on", async () => {
  using walker = await Walker.of("bytelevel-bpe");
  const bad: [string, string][] = [
    ['root ::= "a" rest', 'line 1, column 14: Rule "rest" is not defined'],
    ['root ::= "a', "line 1"],
    ["root ::= [", "line 1"],
  ];
  for (const [grammar, reason] of bad) {
    const error = await assertRejects(
      () => walker.service.acquire(grammar, "guided_grammar"),
      InvalidRequestError,
    );
    assertEquals([error.param, error.code], ["guided_grammar", "invalid_grammar"]);
    assertStringIncludes(error.message, reason);
  }
  const { text, whole } = await walker.walk(WORD, 1);
  assert(whole && /^[a-z]{12}$/.test(text), text);
});

Deno.test("GrammarService ends a grammar that takes too long to compile; others, and sequences under way, go on", async () => {
  using walker = await Walker.of("bytelevel-bpe", { compileMs: 1500 });
  const id = await walker.service.acquire(WORD);
  const sequence = walker.sequence(id, 0);
  for (let i = 0; i < 4; i++) walker.take(sequence, (await walker.allowed(sequence))[0]!);
  const { service } = walker;
  const slow = "root ::= (([a-z]{80}){80}){100}";
  const outcome = service.acquire(slow, "guided_grammar");
  const other = service.acquire(grammarOf({ type: "choice", choices: ["a", "b"] }));
  const error = await assertRejects(() => outcome, InvalidRequestError);
  assertStringIncludes(error.message, "guided_grammar: the grammar takes longer than 1.5 s to compile");
  assert(await other > 0);
  // The same matcher goes on in the new worker, from the tokens that it was told of before.
  let text = walker.text([...sequence.tokens.subarray(1, sequence.length)]);
  while (true) {
    const allowed = await walker.allowed(sequence);
    if (allowed.includes(walker.stopToken)) break;
    walker.take(sequence, allowed[allowed.length >> 1]!);
    text = walker.text([...sequence.tokens.subarray(1, sequence.length)]);
  }
  assert(/^[a-z]{12}$/.test(text), text);
  assertEquals(walker.broken, []);
});

Deno.test("GrammarService keeps so many grammars that nobody uses, the newest ones, and each id once", async () => {
  using walker = await Walker.of("bytelevel-bpe", { kept: 2 });
  const { service } = walker;
  const texts = ["a", "b", "c", "d"].map((text) => grammarOf({ type: "literal", text }));
  const ids: number[] = [];
  for (const text of texts) {
    const id = await service.acquire(text);
    assertEquals(await service.acquire(text), id);
    service.release(id);
    service.release(id);
    ids.push(id);
  }
  assertEquals(await service.acquire(texts[3]!), ids[3]);
  assertEquals(await service.acquire(texts[2]!), ids[2]);
  assert(!ids.includes(await service.acquire(texts[0]!)));
});

Deno.test("GrammarService.close() ends who waits", async () => {
  const walker = await Walker.of("bytelevel-bpe");
  const waiting = walker.service.acquire(WORD);
  walker.service.close();
  await assertRejects(() => waiting, Error, "closed");
});
