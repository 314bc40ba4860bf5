import { assert, assertEquals } from "@std/assert";
import { ChunkBudget } from "../../runtime/chunk_budget.ts";

/** A machine on which a step takes 3 ms, and each row 0.25 ms more. */
const cpu = (decodes: number, rows: number) => 3 + 0.25 * (decodes + rows);

Deno.test("ChunkBudget.rows() keeps a step within so many times one without prompts, where rows cost time", () => {
  const budget = new ChunkBudget(16, 2);
  assertEquals(budget.rows(4), 0, "a step that only decodes comes first");
  for (let i = 0; i < 200; i++) {
    const decodes = 1 + i % 8;
    budget.observe(decodes, 0, cpu(decodes, 0));
    budget.observe(decodes, 64, cpu(decodes, 64));
  }
  for (const decodes of [1, 4, 8]) {
    const rows = budget.rows(decodes);
    const stretch = cpu(decodes, rows) / cpu(decodes, 0);
    assert(stretch <= 2.001 && stretch > 1.9, `${decodes}: ${rows} rows, ${stretch} times`);
  }
  // Numbers that were never seen go by the nearest one.
  assertEquals(budget.rows(12), budget.rows(8));
});

Deno.test("ChunkBudget.rows() allows many where rows are nearly free, and follows a machine that gets slower", () => {
  const budget = new ChunkBudget(4, 2);
  for (let i = 0; i < 100; i++) {
    budget.observe(2, 0, 8);
    budget.observe(2, 64, 8.1);
  }
  assert(budget.rows(2) > 1000);
  for (let i = 0; i < 100; i++) {
    budget.observe(2, 0, 8);
    budget.observe(2, 64, 72);
  }
  assertEquals(budget.rows(2), 8);
});

Deno.test("ChunkBudget.rows() allows any number when it is off, and while steps are too short to matter", () => {
  const off = new ChunkBudget(4, 0);
  const short = new ChunkBudget(4, 2);
  for (const budget of [off, short]) {
    budget.observe(1, 0, budget === off ? 10 : 0.1);
    budget.observe(1, 64, budget === off ? 100 : 1);
    assertEquals(budget.rows(1), Infinity);
  }
});

Deno.test("ChunkBudget.observe() learns a row's time from prompts that nobody decodes beside", () => {
  const budget = new ChunkBudget(4, 3);
  budget.observe(0, 100, 25);
  assertEquals(budget.rows(1), 0, "how long a step takes without prompts is not known yet");
  budget.observe(1, 0, 4);
  assertEquals(budget.rows(1), 32);
});
