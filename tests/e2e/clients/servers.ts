/**
 * What the clients talk to: a server in a process of its own, and one whose model says what a test wants.
 *
 * @module
 */
import { createApp } from "../../../api/app.ts";
import { type Script, scriptedEngine } from "../../api/scripted_engine.ts";
import { startServer } from "../process.ts";

export { CANNOT_CHAT, MODEL, ROOT } from "../service.ts";

/** A server's address, without a slash at its end. */
export interface Address extends AsyncDisposable {
  url: string;
}

/** The name that the real server serves its model under. */
export const NAME = "tiny";

/** The real server, on a free port. */
export async function startReal(): Promise<Address> {
  return await startServer(["--served-model-name", NAME, "--log-level", "error"]);
}

/** The API over an engine that answers by a script, behind a real socket. Its model is called "scripted". */
export async function startScripted(script: Script, template = "qwen"): Promise<Address> {
  const app = createApp(await scriptedEngine(template, script));
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, app.fetch);
  const url = `http://127.0.0.1:${server.addr.port}`;
  return { url, [Symbol.asyncDispose]: () => server.shutdown() };
}

/** What a model says that looks up the weather once, thinks about it, and then tells. */
export const weatherScript: Script = (prompt) =>
  prompt.includes("<tool_response>")
    ? "<think>\nIt is 21 degrees.\n</think>\n\nSunny in Rome, 21 degrees."
    : 'I will look.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>';

/** What the tool of that script answers. */
export const WEATHER = { sky: "sunny", degrees: 21 };

/** The first of `items` that has this type; fails where there is none. */
export function ofType<T extends { type: string }, K extends T["type"]>(
  items: readonly T[] | undefined,
  type: K,
): Extract<T, { type: K }> {
  const found = items?.find((item) => item.type === type);
  if (found === undefined) throw new Error(`no ${type} in ${JSON.stringify(items)}`);
  return found as Extract<T, { type: K }>;
}
