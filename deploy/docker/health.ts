/**
 * The image's health check: exits with 0 while the server's `/health` says that it is well. The image has no shell and
 * no curl.
 *
 * @module
 */

const port = Deno.env.get("KVRM_PORT") ?? "8000";
const scheme = Deno.env.get("KVRM_TLS_CERT") ? "https" : "http";
try {
  const { ok } = await fetch(`${scheme}://127.0.0.1:${port}/health`, { signal: AbortSignal.timeout(4000) });
  Deno.exit(ok ? 0 : 1);
} catch {
  Deno.exit(1);
}
