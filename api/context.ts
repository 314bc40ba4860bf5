/**
 * What the routes share.
 *
 * @module
 */

import type { Engine } from "../runtime/types.ts";
import type { Logger } from "./log.ts";

/** Everything a route may use. */
export interface ApiContext {
  engine: Engine;
  log: Logger;
  maxBodyBytes: number;
}

/** Hono's type of what middleware puts into a request's context. */
export interface ApiEnv {
  Variables: {
    /** Given by the client's x-request-id, else made up. */
    requestId: string;
  };
}
