import { assertEquals, assertStringIncludes } from "@std/assert";
import { UsageError } from "../../cli/arguments.ts";
import { listenError, startFailure } from "../../cli/startup.ts";
import { EngineError, InvalidRequestError, ModelError } from "../../runtime/errors.ts";

Deno.test("startFailure() ends with 2 for what was asked for, with 1 for what went wrong", () => {
  assertEquals(startFailure(new UsageError("x")).exitCode, 2);
  assertEquals(startFailure(new InvalidRequestError("x")).exitCode, 2);
  for (const error of [new ModelError("x"), new EngineError("x", "failed"), new Error("x"), "x"]) {
    assertEquals(startFailure(error), { line: "x", exitCode: 1 });
  }
});

Deno.test("startFailure() names the flag of an engine option, on one line", () => {
  assertEquals(
    startFailure(new InvalidRequestError("too small:\n  raise it", "kvMemory")).line,
    "--kv-memory: too small: raise it",
  );
  assertEquals(startFailure(new InvalidRequestError("wrong", "prompt")).line, "wrong");
});

Deno.test("listenError() says what to do about a port in use and a missing permission", () => {
  const message = (error: unknown) => (listenError(error, "127.0.0.1:80") as Error).message;
  assertStringIncludes(message(new Deno.errors.AddrInUse("os error")), "127.0.0.1:80: the port is in use");
  assertStringIncludes(message(new Deno.errors.NotCapable("net")), "--allow-net=127.0.0.1:80");
  assertStringIncludes(message(new Error("odd")), "cannot listen on 127.0.0.1:80: odd");
});
