// Streams what its event says: `pieces` texts with a pause before each but the first, `megabytes`, an error after them.
import { setTimeout as sleep } from "node:timers/promises";
import { pipeline } from "node:stream/promises";
import { Readable } from "node:stream";

const MEGABYTE = Buffer.alloc(1 << 20, "x");

export const handler = awslambda.streamifyResponse(async (event, stream, context) => {
  if (event.failFirst) throw new TypeError(event.failFirst);
  stream.setContentType("text/plain");
  for (const [place, piece] of (event.pieces ?? []).entries()) {
    if (place > 0) await sleep(event.pause ?? 0);
    stream.write(piece);
  }
  if (event.fail) throw new TypeError(event.fail);
  if (event.requestId) stream.write(context.awsRequestId);
  await pipeline(
    Readable.from((function* () {
      for (let n = 0; n < (event.megabytes ?? 0); n += 1) yield MEGABYTE;
    })()),
    stream,
  );
});

// For a function URL: metadata, then the body.
export const page = awslambda.streamifyResponse(async (event, stream) => {
  const out = awslambda.HttpResponseStream.from(stream, {
    statusCode: 201,
    headers: { "content-type": "text/event-stream", "x-mine": "yes" },
    cookies: ["a=1", "b=2; Secure"],
  });
  for (const n of [1, 2, 3]) {
    out.write(`data: ${n} ${event.rawPath}\n\n`);
    await sleep(200);
  }
  out.end();
});
