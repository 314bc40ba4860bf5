/**
 * What the routes share.
 *
 * @module
 */

import type { Engine } from "../runtime/types.ts";
import type { Logger } from "./log.ts";
import type { ServiceState } from "./service_state.ts";
import type { RequestRecord } from "./telemetry/record.ts";
import type { ToolFormat } from "./tools/formats.ts";

/** Everything a route may use. */
export interface ApiContext {
  engine: Engine;
  log: Logger;
  maxBodyBytes: number;
  state: ServiceState;
  /** How the model writes calls of tools; null: as its chat template tells. */
  toolFormat: ToolFormat | null;
}

/** Hono's type of what middleware puts into a request's context. */
export interface ApiEnv {
  Variables: {
    /** Given by the client's x-request-id, else made up. */
    requestId: string;
    /** Absent for probes, and in tests of single routes. */
    record?: RequestRecord;
  };
}
