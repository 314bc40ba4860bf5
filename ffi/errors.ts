import { Status } from "./layout.ts";

/** A status of the native library other than OK, with the library's own sentence. */
export class NativeError extends Error {
  override readonly name = "NativeError";
  /** The `kvrm_status`. */
  readonly status: number;
  /** Its name, e.g. "INVALID_DESCRIPTOR". */
  readonly code: string;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
    this.code = Object.entries(Status).find(([, value]) => value === status)?.[0] ?? `status ${status}`;
  }
}
