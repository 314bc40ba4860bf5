/**
 * Takes whatever OTLP is sent to it and forgets it: prints its address, then serves until it is ended.
 *
 * @module
 */

const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
  await request.bytes();
  return new Response(null, { headers: { "content-type": "application/x-protobuf" } });
});
Deno.stdout.writeSync(new TextEncoder().encode(`http://127.0.0.1:${server.addr.port}\n`));
