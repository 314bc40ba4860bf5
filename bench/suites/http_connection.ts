/**
 * One kept connection that asks the same again and again and makes next to no garbage: what a client that uses fetch()
 * spends on its own collections would otherwise count as the server's.
 *
 * @module
 */

const CR = 13, LF = 10, ZERO = 48;

/** A connection to a server of HTTP/1.1. */
export class Connection implements Disposable {
  readonly #buffer = new Uint8Array(1 << 16);

  private constructor(readonly connection: Deno.TcpConn) {}

  /** @param address as `http://host:port` */
  static async open(address: string): Promise<Connection> {
    const { hostname, port } = new URL(address);
    const connection = await Deno.connect({ hostname, port: Number(port) });
    connection.setNoDelay();
    return new Connection(connection);
  }

  /**
   * Sends a request and reads the answer, which has to be shorter than 64 KiB. Resolves to the milliseconds until the
   * first byte of its body was there. Throws an Error when the answer's status is not 200 or the server hangs up.
   */
  async ask(request: Uint8Array): Promise<number> {
    const start = performance.now();
    await this.connection.write(request);
    const buffer = this.#buffer;
    let length = 0, body = -1, first = 0;
    do {
      const count = await this.connection.read(buffer.subarray(length));
      if (count === null) throw new Error("the server hung up");
      length += count;
      if (body < 0) body = endOfHead(buffer, length);
      if (first === 0 && body >= 0 && length > body) first = performance.now() - start;
    } while (body < 0 || !isWhole(buffer, body, length));
    if (buffer[9] !== 50) {
      throw new Error(`the server answered ${new TextDecoder().decode(buffer.subarray(0, length))}`);
    }
    return first;
  }

  [Symbol.dispose](): void {
    this.connection.close();
  }
}

/** A request's bytes. */
export function requestBytes(method: string, path: string, json?: unknown): Uint8Array {
  const body = json === undefined ? "" : JSON.stringify(json);
  const type = json === undefined
    ? ""
    : `content-type: application/json\r\ncontent-length: ${body.length}\r\n`;
  return new TextEncoder().encode(`${method} ${path} HTTP/1.1\r\nhost: bench\r\n${type}\r\n${body}`);
}

/** Where the body begins; -1: not there yet. */
function endOfHead(bytes: Uint8Array, length: number): number {
  for (let i = 4; i <= length; i++) {
    if (bytes[i - 1] === LF && bytes[i - 2] === CR && bytes[i - 3] === LF && bytes[i - 4] === CR) return i;
  }
  return -1;
}

/** Whether the answer is there to its end: an empty chunk, or as much as content-length says. */
function isWhole(bytes: Uint8Array, body: number, length: number): boolean {
  const head = new TextDecoder().decode(bytes.subarray(0, body)).toLowerCase();
  const declared = /\r\ncontent-length: (\d+)\r\n/.exec(head)?.[1];
  if (declared !== undefined) return length >= body + Number(declared);
  return length >= body + 5 && bytes[length - 5] === ZERO && bytes[length - 1] === LF;
}
