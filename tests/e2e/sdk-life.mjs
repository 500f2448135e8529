// A function's life with the AWS SDK for JavaScript; run by test_main_job_node_sdk.py.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [modules, zip, newZip, name, runtime] = process.argv.slice(2);
const sdk = createRequire(`${modules}/`)("@aws-sdk/client-lambda");
const client = new sdk.LambdaClient({ maxAttempts: 1 });
const send = (Command, input) => client.send(new Command({ FunctionName: name, ...input }));
const call = async (event) => {
  const answer = await send(sdk.InvokeCommand, { Payload: JSON.stringify(event), LogType: "Tail" });
  return { ...answer, value: JSON.parse(Buffer.from(answer.Payload)), log: Buffer.from(answer.LogResult, "base64").toString() };
};

await send(sdk.CreateFunctionCommand, {
  Runtime: runtime,
  Handler: "index.handler",
  Role: "arn:aws:iam::123456789012:role/e2e",
  Code: { ZipFile: readFileSync(zip) },
  MemorySize: 256,
});
await sdk.waitUntilFunctionActiveV2({ client, maxWaitTime: 60, minDelay: 1 }, { FunctionName: name });

const good = await call({ from: "node" });
assert.equal(good.StatusCode, 200);
assert.equal(good.FunctionError, undefined);
assert.deepEqual(good.value.event, { from: "node" });
assert.equal(good.value.request_id, good.$metadata.requestId);
assert.equal(good.value.memory, "256");
assert.match(good.log, /^REPORT RequestId: \S+\tDuration: /m);

const bad = await call({ fail: "as told" });
assert.equal(bad.FunctionError, "Unhandled");
assert.equal(bad.value.errorType, "TypeError");
assert.equal(bad.value.errorMessage, "as told");

await send(sdk.UpdateFunctionCodeCommand, { ZipFile: readFileSync(newZip) });
await sdk.waitUntilFunctionUpdatedV2({ client, maxWaitTime: 60, minDelay: 1 }, { FunctionName: name });
assert.equal((await call({})).value, "new");

const names = [];
for await (const page of sdk.paginateListFunctions({ client, pageSize: 1 }, {})) {
  names.push(...page.Functions.map((f) => f.FunctionName));
}
assert.ok(names.includes(name));

await send(sdk.DeleteFunctionCommand, {});
await assert.rejects(send(sdk.GetFunctionCommand, {}), sdk.ResourceNotFoundException);
