import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { StopMatcher } from "../../runtime/model/stop.ts";

/** The stop string that is complete first, the longest of those that end together; by looking everywhere. */
function naive(text: string, stops: readonly string[]): { text: string; matched: string | null } {
  for (let end = 1; end <= text.length; end++) {
    const ending = stops.filter((stop) => stop !== "" && text.slice(0, end).endsWith(stop));
    if (ending.length === 0) continue;
    const matched = ending.reduce((a, b) => b.length > a.length ? b : a);
    return { text: text.slice(0, end - matched.length), matched };
  }
  return { text, matched: null };
}

function run(chunks: readonly string[], stops: readonly string[]) {
  const matcher = new StopMatcher(stops);
  const out = chunks.map((chunk) => matcher.push(chunk));
  out.push(matcher.finish());
  return { chunks: out, text: out.join(""), matched: matcher.matched };
}

const unit = fc.constantFrom("a", "b", "é", "\u{1f600}", "\u{1f601}", "\n");
const word = (maxLength: number) => fc.string({ unit, maxLength });

Deno.test("StopMatcher finds what a plain search finds, however the text is cut", () => {
  fc.assert(
    fc.property(
      fc.array(word(6), { maxLength: 12 }),
      fc.array(word(4), { maxLength: 6 }),
      (chunks, stops) => {
        const { text, matched, chunks: out } = run(chunks, stops);
        assertEquals({ text, matched }, naive(chunks.join(""), stops));
        for (const chunk of out) assertEquals(chunk.isWellFormed(), true);
      },
    ),
    { numRuns: 5000 },
  );
});

Deno.test("StopMatcher never emits half a character, even where the text is cut in one", () => {
  fc.assert(
    fc.property(word(20), fc.array(word(4), { maxLength: 6 }), (text, stops) => {
      const { chunks, text: emitted, matched } = run(text.split(""), stops);
      assertEquals({ text: emitted, matched }, naive(text, stops));
      for (const chunk of chunks) assertEquals(chunk.isWellFormed(), true);
    }),
    { numRuns: 3000 },
  );
});

Deno.test("StopMatcher holds back only what could be the beginning of a stop string", () => {
  fc.assert(
    fc.property(fc.array(word(4), { maxLength: 8 }), fc.array(word(4), { maxLength: 6 }), (chunks, stops) => {
      const matcher = new StopMatcher(stops);
      let seen = "";
      let emitted = "";
      for (const chunk of chunks) {
        seen += chunk;
        emitted += matcher.push(chunk);
        if (matcher.matched !== null) return;
        const held = seen.slice(emitted.length);
        assertEquals(held === "" || stops.some((stop) => stop.startsWith(held)), true, JSON.stringify(held));
      }
    }),
    { numRuns: 3000 },
  );
});

Deno.test("StopMatcher goes on from an overlapping beginning", () => {
  assertEquals(run(["aa", "ab"], ["aab"]), { chunks: ["", "a", ""], text: "a", matched: "aab" });
  assertEquals(run(["xab", "abac"], ["abac", "nothing"]).text, "xab");
  assertEquals(run(["one two"], ["two", "one"]), { chunks: ["", ""], text: "", matched: "one" });
});

Deno.test("StopMatcher prefers the stop string that ends first, then the one that begins first", () => {
  assertEquals(run(["xaby"], ["xaby", "ab"]).matched, "ab");
  assertEquals(run(["xab"], ["ab", "xab"]).matched, "xab");
});

Deno.test("StopMatcher passes over what ends where nothing is looked for, and finds what ends after it", () => {
  const matcher = new StopMatcher(["ab", "bcd"]);
  assertEquals(matcher.push("xab", false) + matcher.push("c", false), "xa");
  assertEquals([matcher.matched, matcher.push("d!"), matcher.matched], [null, "", "bcd"]);
  const whole = new StopMatcher(["ab"]);
  assertEquals(whole.push("ab", false) + whole.push("ab"), "ab");
  assertEquals(whole.matched, "ab");
});

Deno.test("StopMatcher emits nothing after a match and everything without stop strings", () => {
  const matcher = new StopMatcher(["."]);
  assertEquals([matcher.push("a.b"), matcher.push("c"), matcher.finish(), matcher.matched], [
    "a",
    "",
    "",
    ".",
  ]);
  assertEquals(run(["a", "b"], []).chunks, ["a", "b", ""]);
  assertEquals(run(["a", "b"], [""]).chunks, ["a", "b", ""]);
});
