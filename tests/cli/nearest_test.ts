import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { editDistance, nearest } from "../../cli/nearest.ts";

Deno.test("editDistance() counts insertions, deletions and substitutions", () => {
  assertEquals(editDistance("kitten", "sitting"), 3);
  assertEquals(editDistance("", "abc"), 3);
});

Deno.test("editDistance() is a metric", () => {
  const word = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 8 });
  fc.assert(fc.property(word, word, word, (a, b, c) => {
    assertEquals(editDistance(a, b) === 0, a === b);
    assertEquals(editDistance(a, b), editDistance(b, a));
    assert(editDistance(a, c) <= editDistance(a, b) + editDistance(b, c));
  }));
});

Deno.test("nearest() gives null where nothing is near", () => {
  assertEquals(nearest("--xyzzy", ["--slots", "--port"]), null);
  assertEquals(nearest("--prot", ["--slots", "--port"]), "--port");
  assertEquals(nearest("--served", ["--slots", "--served-model-name"]), "--served-model-name");
  assertEquals(nearest("-x", []), null);
});
