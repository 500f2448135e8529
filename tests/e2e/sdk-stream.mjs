// A streamed answer with the AWS SDK for JavaScript; run by test_streaming.py.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [modules, name] = process.argv.slice(2);
const sdk = createRequire(`${modules}/`)("@aws-sdk/client-lambda");
const client = new sdk.LambdaClient({ maxAttempts: 1 });

async function stream(event) {
  const command = new sdk.InvokeWithResponseStreamCommand({ FunctionName: name, Payload: JSON.stringify(event), LogType: "Tail" });
  const answer = await client.send(command);
  const pieces = [];
  let end;
  for await (const { PayloadChunk, InvokeComplete } of answer.EventStream) {
    if (PayloadChunk) pieces.push({ text: Buffer.from(PayloadChunk.Payload).toString(), at: performance.now() });
    if (InvokeComplete) end = InvokeComplete;
  }
  return { answer, pieces, end, text: pieces.map((piece) => piece.text).join("") };
}

const good = await stream({ pieces: ["one ", "two ", "three"], pause: 300 });
assert.equal(good.answer.StatusCode, 200);
assert.equal(good.answer.ExecutedVersion, "$LATEST");
assert.equal(good.text, "one two three");
assert.ok(good.pieces.at(-1).at - good.pieces[0].at > 400, "the first piece came long before the last");
assert.equal(good.end.ErrorCode, undefined);
assert.match(Buffer.from(good.end.LogResult, "base64").toString(), /^REPORT RequestId: /m);

const bad = await stream({ pieces: ["some"], fail: "as told" });
assert.equal(bad.text, "some");
assert.equal(bad.end.ErrorCode, "TypeError");
assert.equal(JSON.parse(bad.end.ErrorDetails).errorMessage, "as told");

const large = await stream({ megabytes: 20 });
assert.equal(large.text.length, 20 << 20);
