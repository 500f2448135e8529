// Hearth's runtime client for Node.js: asks the Runtime API for invocations and answers them, one after another or as many
// at once as AWS_LAMBDA_MAX_CONCURRENCY allows, with the contract of AWS Lambda's own. CommonJS, because Node.js starts it
// sooner than an ES module.

"use strict";

const { waitForFunction } = require("./ahead.cjs");
const { patchConsole } = require("./console.cjs");
const { loadHandler, RuntimeError, CALLBACKS } = require("./handler.cjs");
const { RuntimeApi } = require("./runtime-api.cjs");
const { awslambda, isStreaming, responseStream } = require("./streaming.cjs");

// All that is not the function's is loaded; what follows may depend on its variables.
waitForFunction();

/** Whether the process is saved once its init phase is over. */
const IS_SAVED = process.env.AWS_LAMBDA_INITIALIZATION_TYPE === "snap-start";
let afterRestore = null;
/** Invocations at once. */
const SLOTS = Math.max(1, Math.trunc(Number(process.env.AWS_LAMBDA_MAX_CONCURRENCY)) || 1);
/** With several at once: which of them the running code belongs to. */
const current = SLOTS > 1 ? new (require("node:async_hooks").AsyncLocalStorage)() : null;
/** Of the invocation under way or the last one; what Lambda prints before the first is just this. */
let lastRequestId = "undefined";
const requestId = () => current?.getStore() ?? lastRequestId;
/** What happens when the event loop has nothing left but this client; with several invocations at once it always has. */
let whenIdle = null;

/** An error as Lambda reports it. */
function errorDocument(error) {
  try {
    if (error instanceof Error || (error && typeof error === "object" && "stack" in error && "message" in error)) {
      return {
        errorType: String(error.name ?? "Error"),
        errorMessage: String(error.message ?? ""),
        trace: String(error.stack ?? "").split("\n"),
      };
    }
    return { errorType: typeof error, errorMessage: String(error), trace: [] };
  } catch {
    return {
      errorType: "handled",
      errorMessage: "the function failed with an error whose message, name or stack cannot be read",
      trace: [],
    };
  }
}

function logError(title, document) {
  const { errorType, errorMessage, trace } = document;
  console.error(title, "\t", JSON.stringify({ errorType, errorMessage, stack: trace }));
}

function contextOf(headers) {
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  const parse = (name) => (headers[name] ? JSON.parse(headers[name]) : undefined);
  const env = process.env;
  const context = {
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    awsRequestId: headers["lambda-runtime-aws-request-id"],
    tenantId: headers["lambda-runtime-aws-tenant-id"],
    clientContext: parse("lambda-runtime-client-context"),
    identity: parse("lambda-runtime-cognito-identity"),
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
  };
  if (CALLBACKS) context.callbackWaitsForEmptyEventLoop = true;
  return context;
}

/** Runs a handler of any style: one that returns a promise or a value, one that calls back, one that ends its context. */
function run(handler, event, context) {
  return new Promise((resolve, reject) => {
    let done = false;
    let called = false;
    const finish = (error, result) => {
      if (done) return;
      done = true;
      whenIdle = null;
      if (error === undefined || error === null) resolve(result);
      else reject(error);
    };
    const callback = (error, result) => {
      if (done || called) return;
      called = true;
      if ((error === undefined || error === null) && context.callbackWaitsForEmptyEventLoop && SLOTS === 1) {
        whenIdle = () => finish(null, result);
      } else {
        finish(error, result);
      }
    };
    if (CALLBACKS) {
      context.done = finish;
      context.succeed = (result) => finish(null, result);
      context.fail = (error) => finish(error ?? "handled");
      whenIdle = () => finish(null, null);
    } else {
      whenIdle = () => finish(new RuntimeError("Runtime.NodeJsExit", "nothing is left to do, yet the handler's promise was never settled"));
    }
    const returned = CALLBACKS ? handler(event, context, callback) : handler(event, context);
    // A promise may be rejected with nothing at all, which is an error still.
    if (typeof returned?.then === "function") returned.then((result) => finish(null, result), (error) => finish(error ?? new Error(String(error))));
    else if (!CALLBACKS || (handler.length < 3 && returned !== undefined)) finish(null, returned);
  });
}

function serialize(result) {
  try {
    return JSON.stringify(result) ?? "null";
  } catch {
    throw new Error("Unable to stringify response body");
  }
}

async function invoke(api, handler, { headers, body }) {
  const id = headers["lambda-runtime-aws-request-id"];
  lastRequestId = id;
  const trace = headers["lambda-runtime-trace-id"];
  // The environment is one for all that run at once: with several, it is no place for what belongs to one.
  if (trace && SLOTS === 1) process.env._X_AMZN_TRACE_ID = trace;
  else delete process.env._X_AMZN_TRACE_ID;
  if (isStreaming(handler)) return invokeStreaming(api, handler, id, { headers, body });
  let document;
  try {
    document = serialize(await run(handler, JSON.parse(body), contextOf(headers)));
  } catch (error) {
    const failure = errorDocument(error);
    logError("Invoke Error", failure);
    await api.error(id, failure);
    return;
  }
  await api.response(id, document);
}

/** The same for a handler that writes its answer to a stream. */
async function invokeStreaming(api, handler, id, { headers, body }) {
  const stream = responseStream(handler, (contentType) => api.streamed(id, contentType));
  let failure = null;
  try {
    await run((event, context) => handler(event, stream, context), JSON.parse(body), contextOf(headers));
  } catch (error) {
    failure = errorDocument(error);
    logError("Invoke Error", failure);
    if (!stream.begun) {
      await api.error(id, failure);
      return;
    }
  }
  await stream.settle(failure);
}

/** Takes one invocation after another, on a connection of its own. */
async function serve(handler) {
  const api = new RuntimeApi(process.env.AWS_LAMBDA_RUNTIME_API);
  for (;;) {
    const next = await api.next();
    // A process that is saved is so while it waits for its first invocation.
    afterRestore?.();
    afterRestore = null;
    const work = () => invoke(api, handler, next);
    await (current ? current.run(next.headers["lambda-runtime-aws-request-id"], work) : work());
  }
}

/** A failure that nobody caught ends the process; the caller hears of it first. */
function reportUncaught() {
  const report = async (title, document, status) => {
    logError(title, document);
    // An API that does not answer must not keep a broken process alive.
    setTimeout(() => process.exit(status), 1000);
    const other = new RuntimeApi(process.env.AWS_LAMBDA_RUNTIME_API);
    const id = requestId();
    const told = id === "undefined" ? other.initError(document) : other.error(id, document);
    await told.catch(() => {});
    process.exit(status);
  };
  process.on("uncaughtException", (error) => report("Uncaught Exception", errorDocument(error), 129));
  process.on("unhandledRejection", (reason) => {
    const { trace } = errorDocument(reason);
    const errorType = "Runtime.UnhandledPromiseRejection";
    report("Unhandled Promise Rejection", { errorType, errorMessage: String(reason), trace }, 128);
  });
}

async function main() {
  patchConsole(requestId);
  reportUncaught();
  process.on("beforeExit", () => {
    const action = whenIdle;
    whenIdle = null;
    action?.();
  });
  globalThis.awslambda = awslambda;
  let handler;
  try {
    if (IS_SAVED) afterRestore = require("./snapshot.cjs").prepare();
    handler = await loadHandler(process.env.LAMBDA_TASK_ROOT ?? process.cwd(), process.env._HANDLER ?? "");
  } catch (error) {
    const document = errorDocument(error);
    logError("Uncaught Exception", document);
    await new RuntimeApi(process.env.AWS_LAMBDA_RUNTIME_API).initError(document);
    process.exit(1);
  }
  for (let slot = 0; slot < SLOTS; slot += 1) serve(handler);
}

main();
