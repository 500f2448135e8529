// Hearth's runtime client for Node.js: asks the Runtime API for invocations and answers them, one after another, with the
// contract of AWS Lambda's own.

import { format } from "node:util";

import { loadHandler } from "./handler.mjs";
import { RuntimeApi } from "./runtime-api.mjs";

const api = new RuntimeApi(process.env.AWS_LAMBDA_RUNTIME_API);
let requestId = "undefined";

/** An error as Lambda reports it. */
function errorDocument(error) {
  if (error instanceof Error || (error && typeof error === "object" && "stack" in error)) {
    return {
      errorType: String(error.name ?? "Error"),
      errorMessage: String(error.message ?? ""),
      trace: String(error.stack ?? "").split("\n"),
    };
  }
  return { errorType: typeof error, errorMessage: String(error), trace: [] };
}

function patchConsole() {
  const levels = { log: "INFO", info: "INFO", debug: "DEBUG", trace: "TRACE", warn: "WARN", error: "ERROR" };
  for (const [method, level] of Object.entries(levels)) {
    console[method] = (...parts) => {
      // One write a call; line feeds inside become carriage returns, so that a call stays one entry of the log.
      const text = format(...parts).replaceAll("\n", "\r");
      process.stdout.write(`${new Date().toISOString()}\t${requestId}\t${level}\t${text}\n`);
    };
  }
}

function logError(error) {
  const document = errorDocument(error);
  console.error("Invoke Error", "\t", JSON.stringify({ ...document, stack: document.trace }));
}

function contextOf(headers) {
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  const parse = (name) => (headers[name] ? JSON.parse(headers[name]) : undefined);
  const env = process.env;
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    awsRequestId: headers["lambda-runtime-aws-request-id"],
    clientContext: parse("lambda-runtime-client-context"),
    identity: parse("lambda-runtime-cognito-identity"),
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
  };
}

/** Resolves when the event loop has nothing left but this client. */
function emptyEventLoop() {
  return new Promise((resolve) => {
    process.once("beforeExit", resolve);
  });
}

/** Runs a handler of either style: one that returns a promise, or one that calls back. */
function run(handler, event, context) {
  return new Promise((resolve, reject) => {
    let done = false;
    const finish = (error, result) => {
      if (done) return;
      done = true;
      const settle = () => (error === null || error === undefined ? resolve(result) : reject(error));
      if (context.callbackWaitsForEmptyEventLoop) emptyEventLoop().then(settle);
      else settle();
    };
    context.done = finish;
    context.succeed = (result) => finish(null, result);
    context.fail = (error) => finish(error ?? new Error("handler failed"));
    const returned = handler(event, context, finish);
    if (typeof returned?.then === "function") {
      returned.then(resolve, reject);
    } else if (handler.length < 3 && returned !== undefined) {
      resolve(returned);
    } else if (handler.length < 3) {
      // Neither a promise nor a callback: it answers null when nothing more can happen, unless context.done comes first.
      emptyEventLoop().then(() => resolve(null));
    }
  });
}

async function invoke(handler, { headers, body }) {
  requestId = headers["lambda-runtime-aws-request-id"];
  const trace = headers["lambda-runtime-trace-id"];
  if (trace) process.env._X_AMZN_TRACE_ID = trace;
  else delete process.env._X_AMZN_TRACE_ID;
  let document;
  try {
    const result = await run(handler, JSON.parse(body), contextOf(headers));
    document = JSON.stringify(result) ?? "null";
  } catch (error) {
    logError(error);
    await api.error(requestId, errorDocument(error));
    return;
  }
  await api.response(requestId, document);
}

/** A failure that nobody caught ends the process; the caller hears of it first. */
function reportUncaught() {
  const report = (type) => async (error) => {
    const document = { ...errorDocument(error), errorType: type };
    console.error(type === "Runtime.UnhandledPromiseRejection" ? "Unhandled Promise Rejection" : "Uncaught Exception", "\t", JSON.stringify(document));
    const other = new RuntimeApi(process.env.AWS_LAMBDA_RUNTIME_API);
    await (requestId === "undefined" ? other.initError(document) : other.error(requestId, document)).catch(() => {});
    process.exit(129);
  };
  process.on("uncaughtException", (error) => report(error?.name ?? "Error")(error));
  process.on("unhandledRejection", report("Runtime.UnhandledPromiseRejection"));
}

async function main() {
  patchConsole();
  reportUncaught();
  globalThis.awslambda = {
    streamifyResponse() {
      throw new Error("Hearth's Node.js client does not stream responses yet");
    },
  };
  let handler;
  try {
    handler = await loadHandler(process.env.LAMBDA_TASK_ROOT ?? process.cwd(), process.env._HANDLER ?? "");
  } catch (error) {
    const document = errorDocument(error);
    console.error("Uncaught Exception", "\t", JSON.stringify(document));
    await api.initError(document);
    process.exit(1);
  }
  for (;;) await invoke(handler, await api.next());
}

// Loading the handler may need the loop; whoever ends it with nothing left to do has ended the runtime.
await main();
