"use strict";

// What a function's console calls write: lines of text, or documents where its LogFormat is JSON.
// Source: docs.aws.amazon.com/lambda/latest/dg/nodejs-logging.html

const { format, types } = require("node:util");

const LEVELS = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
const METHODS = { log: "INFO", info: "INFO", debug: "DEBUG", trace: "TRACE", warn: "WARN", error: "ERROR" };

function text(level, requestId, parts) {
  // Line feeds inside become carriage returns, so that a call stays one entry of the log.
  return `${new Date().toISOString()}\t${requestId}\t${level}\t${format(...parts).replaceAll("\n", "\r")}`;
}

function json(level, requestId, parts) {
  const document = { timestamp: new Date().toISOString(), level };
  // There is none in the init phase.
  if (requestId !== "undefined") document.requestId = requestId;
  const error = parts.find((part) => types.isNativeError(part));
  const one = parts.length === 1 && typeof parts[0] === "object" && parts[0] !== null && !error;
  document.message = one ? parts[0] : format(...parts);
  if (error) {
    document.errorType = String(error.name);
    document.errorMessage = String(error.message);
    document.stackTrace = String(error.stack).split("\n");
  }
  try {
    return JSON.stringify(document);
  } catch {
    // Circles, numbers that JSON lacks, getters that throw.
    return JSON.stringify({ ...document, message: format(...parts) });
  }
}

/** Has console calls write one line each to standard output; `requestId` is that of now. */
function patchConsole(requestId) {
  const isJson = process.env.AWS_LAMBDA_LOG_FORMAT === "JSON";
  const least = isJson ? LEVELS.indexOf(process.env.AWS_LAMBDA_LOG_LEVEL ?? "INFO") : 0;
  const line = isJson ? json : text;
  for (const [method, level] of Object.entries(METHODS)) {
    const isSaid = LEVELS.indexOf(level) >= least;
    console[method] = isSaid ? (...parts) => void process.stdout.write(`${line(level, requestId(), parts)}\n`) : () => {};
  }
}

module.exports = { patchConsole };
