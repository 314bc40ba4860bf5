import { assertEquals } from "@std/assert";
import { Hono } from "hono";
import type { ApiContext, ApiEnv } from "../../api/context.ts";
import { lazyRoutes } from "../../api/lazy_routes.ts";

const CONTEXT = {} as ApiContext;

function routes(): Hono<ApiEnv> {
  return new Hono<ApiEnv>()
    .get("/things/:id", (c) => c.text(`${c.req.param("id")} ${c.get("requestId")}`))
    .post("/things", () => {
      throw new Error("no room");
    });
}

Deno.test("lazyRoutes() loads a module for the first request, once, with what middleware knows", async () => {
  let loads = 0;
  const app = new Hono<ApiEnv>();
  app.use(async (c, next) => {
    c.set("requestId", "the request");
    await next();
  });
  app.route(
    "/",
    lazyRoutes(["GET /things/:id", "POST /things"], () => {
      loads++;
      return Promise.resolve(routes);
    })(CONTEXT),
  );
  assertEquals((await app.request("/other")).status, 404);
  assertEquals(loads, 0);
  const [one, two] = await Promise.all([app.request("/things/1"), app.request("/things/2")]);
  assertEquals([await one.text(), await two.text()], ["1 the request", "2 the request"]);
  assertEquals(loads, 1);
});

Deno.test("lazyRoutes() leaves errors to the app around them", async () => {
  const app = new Hono<ApiEnv>();
  app.onError((error, c) => c.text(error.message, 418));
  app.route("/", lazyRoutes(["POST /things"], () => Promise.resolve(routes))(CONTEXT));
  const response = await app.request("/things", { method: "POST" });
  assertEquals([response.status, await response.text()], [418, "no room"]);
});
