/**
 * Routes that a server may never be asked for: their modules are loaded when the first request for one comes, and not
 * at the start, where each would cost milliseconds before the first token.
 *
 * @module
 */

import { type Context, Hono } from "hono";
import type { ApiContext, ApiEnv } from "./context.ts";

/** Makes the routes of one module. */
export type Routes = (context: ApiContext) => Hono<ApiEnv>;

/** What the app that was loaded hears of the request's own context. */
interface InnerEnv extends ApiEnv {
  Bindings: { outer: Context<ApiEnv> };
}

/** @param places "METHOD /path" of each route that `load` has. */
export function lazyRoutes(places: readonly string[], load: () => Promise<Routes>): Routes {
  return (context) => {
    let loaded: Promise<Hono<InnerEnv>> | null = null;
    const answer = async (c: Context<ApiEnv>) => {
      loaded ??= load().then((routes) => wrap(routes(context)));
      return (await loaded).fetch(c.req.raw, { outer: c });
    };
    const app = new Hono<ApiEnv>();
    for (const place of places) {
      const [method, path] = place.split(" ");
      app.on(method!, path!, answer);
    }
    return app;
  };
}

/** Hands on what middleware has put into the outer context; errors go back to it. */
function wrap(routes: Hono<ApiEnv>): Hono<InnerEnv> {
  const app = new Hono<InnerEnv>();
  app.use(async (c, next) => {
    const { requestId, record } = c.env.outer.var;
    c.set("requestId", requestId);
    if (record !== undefined) c.set("record", record);
    await next();
  });
  app.route("/", routes as unknown as Hono<InnerEnv>);
  app.onError((error) => {
    throw error;
  });
  return app;
}
