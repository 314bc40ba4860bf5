/**
 * What the API asks of tracing. Its implementation is loaded only where tracing is on, so that the others pay
 * one check per request.
 *
 * @module
 */

import type { RequestRecord } from "./record.ts";

/** Where the spans of a request belong; opaque. */
export type Place = object;

/** Makes spans and measurements of requests. */
export interface Tracing {
  /** The place of the request being handled; null when it is not traced. */
  open(): Place | null;
  /** Names the HTTP span after its route, once it is known that there is one. */
  name(method: string, path: string): void;
  /** Makes the spans of a request that has ended, within its place, and counts it. */
  close(record: RequestRecord, model: string, place: Place | null): void;
}
