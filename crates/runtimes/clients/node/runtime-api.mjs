// The Runtime API over one kept-alive connection.
//
// A plain socket instead of node:http: the peer is Hearth's own worker on loopback, which answers with Content-Length, and
// loading node:http would cost more of a cold start than the rest of this client.

import net from "node:net";

const VERSION = "/2018-06-01/runtime";

export class RuntimeApi {
  #host;
  #port;
  #socket = null;
  #buffer = Buffer.alloc(0);
  #pending = null;

  constructor(address) {
    const [host, port] = address.split(":");
    this.#host = host;
    this.#port = Number(port);
  }

  async next() {
    const { status, headers, body } = await this.#request("GET", `${VERSION}/invocation/next`);
    if (status !== 200) throw new Error(`the Runtime API answered next with ${status}: ${body}`);
    return { headers, body };
  }

  response(requestId, document) {
    return this.#request("POST", `${VERSION}/invocation/${requestId}/response`, document);
  }

  error(requestId, error) {
    return this.#request("POST", `${VERSION}/invocation/${requestId}/error`, JSON.stringify(error), errorHeaders(error));
  }

  initError(error) {
    return this.#request("POST", `${VERSION}/init/error`, JSON.stringify(error), errorHeaders(error));
  }

  #connect() {
    const socket = net.connect({ host: this.#host, port: this.#port, noDelay: true });
    const fail = (error) => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      this.#buffer = Buffer.alloc(0);
      const pending = this.#pending;
      this.#pending = null;
      pending?.reject(error ?? new Error("the Runtime API closed the connection"));
    };
    socket.on("data", (chunk) => {
      this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk]);
      this.#parse();
    });
    socket.on("error", fail);
    socket.on("close", () => fail());
    this.#socket = socket;
  }

  #request(method, path, document, extra = "") {
    if (this.#pending) return Promise.reject(new Error("a request to the Runtime API is under way"));
    if (!this.#socket) this.#connect();
    return new Promise((resolve, reject) => {
      this.#pending = { resolve, reject };
      // Only a request under way keeps the event loop alive: while the function runs, the loop is the function's.
      this.#socket.ref();
      const head = `${method} ${path} HTTP/1.1\r\nHost: ${this.#host}:${this.#port}\r\nUser-Agent: hearth-node\r\n${extra}`;
      if (document === undefined) {
        this.#socket.write(`${head}\r\n`);
        return;
      }
      const length = Buffer.byteLength(document);
      this.#socket.write(`${head}Content-Type: application/json\r\nContent-Length: ${length}\r\n\r\n${document}`);
    });
  }

  #parse() {
    const end = this.#buffer.indexOf("\r\n\r\n");
    if (end < 0 || !this.#pending) return;
    const lines = this.#buffer.latin1Slice(0, end).split("\r\n");
    const status = Number(lines[0].split(" ")[1]);
    const headers = {};
    for (const line of lines.slice(1)) {
      const colon = line.indexOf(":");
      headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    const start = end + 4;
    const length = Number(headers["content-length"] ?? 0);
    if (this.#buffer.length < start + length) return;
    const body = this.#buffer.utf8Slice(start, start + length);
    this.#buffer = this.#buffer.subarray(start + length);
    const pending = this.#pending;
    this.#pending = null;
    this.#socket.unref();
    pending.resolve({ status, headers, body });
  }
}

function errorHeaders(error) {
  const type = String(error.errorType ?? "Error").replace(/[^\x21-\x7e]/g, "");
  return `Lambda-Runtime-Function-Error-Type: ${type}\r\n`;
}
