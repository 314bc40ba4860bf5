/**
 * What commands write for their users.
 *
 * @module
 */

const utf8 = new TextEncoder();

/** Writes all of a text to standard output. */
export function print(text: string): void {
  const bytes = utf8.encode(text);
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}

/** Writes all of a text to standard error. */
export function note(text: string): void {
  const bytes = utf8.encode(text);
  for (let at = 0; at < bytes.length;) at += Deno.stderr.writeSync(bytes.subarray(at));
}
