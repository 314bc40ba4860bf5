import { assertEquals } from "@std/assert";
import { ServiceState } from "../../api/service_state.ts";

Deno.test("ServiceState.idle() waits for the last request to leave, each counted once", async () => {
  const state = new ServiceState();
  await state.idle();
  const [first, second] = [state.enter(), state.enter()];
  let idle = false;
  const waiting = state.idle().then(() => idle = true);
  first();
  first();
  await Promise.resolve();
  assertEquals([state.active, idle], [1, false]);
  second();
  await waiting;
  assertEquals([state.active, idle], [0, true]);
});
