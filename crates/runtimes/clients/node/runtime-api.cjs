// The Runtime API over one kept-alive connection.
//
// A plain socket instead of node:http: the peer is Hearth's own worker on loopback, which answers with Content-Length, and
// loading node:http would cost more of a cold start than the rest of this client.

"use strict";

const net = require("node:net");

const VERSION = "/2018-06-01/runtime";
/** Characters of an error document that is sent behind a body. */
const MAX_TRAILER = 4096;
const END_OF_HEAD = "\r\n\r\n";

class RuntimeApi {
  #host;
  #port;
  #socket = null;
  /** What came and was not used yet; joined only once there is enough, so that large events are not copied over and over. */
  #chunks = [];
  #received = 0;
  #head = null;
  #pending = null;

  constructor(address) {
    [this.#host, this.#port] = address.split(":");
  }

  async next() {
    const { status, headers, body } = await this.#request("GET", `${VERSION}/invocation/next`);
    if (status !== 200) throw new Error(`the Runtime API answered next with ${status}: ${body}`);
    return { headers, body };
  }

  response(requestId, document) {
    return this.#request("POST", `${VERSION}/invocation/${requestId}/response`, document);
  }

  /** Begins an answer that is sent in pieces. `answered` settles when its end has been taken. */
  streamed(requestId, contentType) {
    let socket;
    const answered = this.#ask((host) => {
      socket = this.#socket;
      socket.write(
        `POST ${VERSION}/invocation/${requestId}/response HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: hearth-node\r\n` +
          `Content-Type: ${contentType}\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n` +
          "Transfer-Encoding: chunked\r\nTrailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n",
      );
    });
    // It may break off long before anybody waits for its end.
    answered.catch(() => {});
    const write = (chunk, done) => {
      // A chunk without bytes would be the end.
      if (chunk.length === 0) return done?.();
      socket.cork();
      socket.write(`${chunk.length.toString(16)}\r\n`);
      socket.write(chunk);
      socket.write("\r\n", done);
      socket.uncork();
    };
    const end = (error) => {
      const body = error && Buffer.from(JSON.stringify(fitting(error))).toString("base64");
      socket.write(`0\r\n${error ? `${typeHeader(error)}Lambda-Runtime-Function-Error-Body: ${body}\r\n` : ""}\r\n`);
    };
    return { answered, write, end };
  }

  error(requestId, error) {
    return this.#request("POST", `${VERSION}/invocation/${requestId}/error`, JSON.stringify(error), typeHeader(error));
  }

  initError(error) {
    return this.#request("POST", `${VERSION}/init/error`, JSON.stringify(error), typeHeader(error));
  }

  #connect() {
    const socket = net.connect({ host: this.#host, port: Number(this.#port), noDelay: true });
    const fail = (error) => {
      if (this.#socket !== socket) return;
      const pending = this.#pending;
      this.#socket = this.#pending = this.#head = null;
      this.#chunks = [];
      this.#received = 0;
      pending?.reject(error ?? new Error("the Runtime API closed the connection"));
    };
    socket.on("data", (chunk) => {
      this.#chunks.push(chunk);
      this.#received += chunk.length;
      this.#answer();
    });
    socket.on("error", fail);
    socket.on("close", () => fail());
    this.#socket = socket;
  }

  /** Has `send` write a request, and waits for its answer. */
  #ask(send) {
    if (this.#pending) return Promise.reject(new Error("a request to the Runtime API is under way"));
    if (!this.#socket) this.#connect();
    return new Promise((resolve, reject) => {
      this.#pending = { resolve, reject };
      // Only a request under way keeps the event loop alive: while the function runs, the loop is the function's.
      this.#socket.ref();
      send(`${this.#host}:${this.#port}`);
    });
  }

  #request(method, path, document, extra = "") {
    return this.#ask((host) => {
      const head = `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: hearth-node\r\n${extra}`;
      if (document === undefined) {
        this.#socket.write(`${head}\r\n`);
        return;
      }
      const length = Buffer.byteLength(document);
      this.#socket.write(`${head}Content-Type: application/json\r\nContent-Length: ${length}\r\n\r\n${document}`);
    });
  }

  /** Settles the request under way if all of its answer is here. */
  #answer() {
    if (!this.#pending) return;
    if (!this.#head && !this.#parseHead()) return;
    const { status, headers, start, length } = this.#head;
    if (this.#received < start + length) return;
    const all = this.#joined();
    const body = all.utf8Slice(start, start + length);
    const rest = all.subarray(start + length);
    this.#chunks = rest.length > 0 ? [rest] : [];
    this.#received = rest.length;
    const pending = this.#pending;
    this.#pending = this.#head = null;
    this.#socket.unref();
    pending.resolve({ status, headers, body });
  }

  #parseHead() {
    const all = this.#joined();
    const end = all.indexOf(END_OF_HEAD);
    if (end < 0) return false;
    const lines = all.latin1Slice(0, end).split("\r\n");
    const headers = {};
    for (const line of lines.slice(1)) {
      const colon = line.indexOf(":");
      headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    const length = Number(headers["content-length"] ?? 0);
    this.#head = { status: Number(lines[0].split(" ")[1]), headers, start: end + END_OF_HEAD.length, length };
    return true;
  }

  #joined() {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0];
  }
}

/** What fits into a trailer of an error document. */
function fitting(error) {
  if (JSON.stringify(error).length <= MAX_TRAILER) return error;
  return { errorType: error.errorType, errorMessage: String(error.errorMessage).slice(0, MAX_TRAILER / 2), trace: [] };
}

function typeHeader(error) {
  const type = String(error.errorType ?? "Error").replace(/[^\x21-\x7e]/g, "");
  return `Lambda-Runtime-Function-Error-Type: ${type}\r\n`;
}

module.exports = { RuntimeApi };
