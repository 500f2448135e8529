// Handlers that stream their answer: `awslambda.streamifyResponse` and what it gives them to write to.

"use strict";

const { Writable } = require("node:stream");

/** How AWS's own client marks such a handler. */
const STREAMING = Symbol.for("aws.lambda.runtime.handler.streaming");
/** What follows is metadata in JSON, eight zero bytes, and the body. */
const HTTP_INTEGRATION = "application/vnd.awslambda.http-integration-response";
/** Bytes that wait in the process before a handler is told to wait. */
const HIGH_WATER_MARK = 64 * 1024;

class ResponseStream extends Writable {
  #begin;
  #post = null;
  #contentType = "application/octet-stream";
  /** Called with a function that writes, before the first byte of the handler's. */
  _onBeforeFirstWrite = null;

  constructor(begin, highWaterMark) {
    super({ highWaterMark });
    this.#begin = begin;
  }

  get begun() {
    return this.#post !== null;
  }

  setContentType(type) {
    if (this.begun) throw new Error("Cannot set content-type, too late.");
    this.#contentType = String(type).replace(/[^\x20-\x7e]/g, "");
  }

  _write(chunk, encoding, done) {
    this.#open().write(chunk, done);
  }

  _final(done) {
    this.#open().end();
    done();
  }

  /** Waits for the end, or makes one: `error` is what the handler failed with in mid-stream. */
  async settle(error) {
    if (error && !this.writableEnded && !this.destroyed) {
      // What was written before comes before it.
      await new Promise((resolve) => this.write(Buffer.alloc(0), () => resolve()));
      this.#post.end(error);
      this.destroy();
    } else if (!this.destroyed) {
      await new Promise((resolve) => this.end(() => resolve()));
    }
    await this.#post?.answered;
  }

  #open() {
    if (!this.#post) {
      this.#post = this.#begin(this.#contentType);
      this._onBeforeFirstWrite?.((chunk) => this.#post.write(Buffer.from(chunk)));
    }
    return this.#post;
  }
}

const awslambda = {
  streamifyResponse(handler, options) {
    handler[STREAMING] = "response";
    const highWaterMark = Number(options?.highWaterMark);
    if (highWaterMark > 0) handler[Symbol.for("aws.lambda.runtime.handler.streaming.highWaterMark")] = highWaterMark;
    return handler;
  },
  HttpResponseStream: class {
    static from(stream, metadata) {
      stream.setContentType(HTTP_INTEGRATION);
      const head = JSON.stringify(metadata);
      stream._onBeforeFirstWrite = (write) => {
        write(head);
        write(new Uint8Array(8));
      };
      return stream;
    }
  },
};

const isStreaming = (handler) => handler[STREAMING] === "response";

/** What a handler writes to; `begin` is called with the content type, once there is something to send. */
function responseStream(handler, begin) {
  const stream = new ResponseStream(begin, handler[Symbol.for("aws.lambda.runtime.handler.streaming.highWaterMark")] ?? HIGH_WATER_MARK);
  // A handler that does not listen for errors of its stream hears of them when it writes, and no process dies of it.
  stream.on("error", () => {});
  return stream;
}

module.exports = { awslambda, isStreaming, responseStream };
