// Finds the function that answers: `file.name`, `dir/file.name`, `file.object.method`.

"use strict";

const { readFileSync, statSync } = require("node:fs");
const { createRequire } = require("node:module");
const path = require("node:path");

const { isStreaming } = require("./streaming.cjs");

/** Lambda has no handlers that call back from Node.js 24 on. */
const CALLBACKS = Number(process.versions.node.split(".")[0]) < 24;

/** An error whose type Lambda's users know. */
class RuntimeError extends Error {
  constructor(type, message, cause) {
    super(message);
    this.name = type;
    if (cause?.stack) this.stack = cause.stack;
  }
}

async function loadHandler(root, definition) {
  if (definition.includes("..")) {
    throw new RuntimeError(
      "Runtime.MalformedHandlerName",
      `'${definition}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`,
    );
  }
  const match = /^((?:.*\/)?)([^/.]+)\.([^/]+)$/.exec(definition);
  if (!match) throw new RuntimeError("Runtime.MalformedHandlerName", "Bad handler");
  const [, directory, stem, names] = match;
  const module = await load(root, directory, stem);
  const handler = names.split(".").reduce((value, name) => value?.[name], module);
  if (handler === undefined || handler === null) {
    throw new RuntimeError("Runtime.HandlerNotFound", `${definition} is undefined or not exported`);
  }
  if (typeof handler !== "function") {
    throw new RuntimeError("Runtime.HandlerNotFound", `${definition} is not a function`);
  }
  if (!CALLBACKS && handler.length >= 3 && !isStreaming(handler)) {
    throw new RuntimeError(
      "Runtime.CallbackHandlerDeprecated",
      "AWS Lambda has removed support for callback-based function handlers starting with Node.js 24. " +
        "You need to modify this function to use a supported handler signature to use Node.js 24 or later.",
    );
  }
  return handler;
}

async function load(root, directory, stem) {
  try {
    return await loadModule(root, directory, stem);
  } catch (error) {
    if (error instanceof SyntaxError) {
      throw new RuntimeError("Runtime.UserCodeSyntaxError", `SyntaxError: ${error.message}`, error);
    }
    if (error?.code === "ERR_MODULE_NOT_FOUND" || error?.code === "MODULE_NOT_FOUND") {
      throw new RuntimeError("Runtime.ImportModuleError", `Error: ${error.message}`, error);
    }
    throw error;
  }
}

/** In Lambda's order. CommonJS is required, not imported: all that it exports is found, and no ESM loader has to start. */
function loadModule(root, directory, stem) {
  const base = path.resolve(root, directory, stem);
  const require = createRequire(base);
  if (isFile(base)) return require(base);
  if (isFile(`${base}.js`)) return isEsm(base) ? importFile(`${base}.js`) : require(`${base}.js`);
  if (isFile(`${base}.mjs`)) return importFile(`${base}.mjs`);
  if (isFile(`${base}.cjs`)) return require(`${base}.cjs`);
  // A folder with an index.js, or a package in node_modules.
  return require(require.resolve(directory ? `./${stem}` : stem, { paths: [path.resolve(root, directory), root] }));
}

function importFile(file) {
  return import(require("node:url").pathToFileURL(file).href);
}

function isFile(file) {
  return statSync(file, { throwIfNoEntry: false })?.isFile() ?? false;
}

/** Whether the nearest package.json makes `.js` files ESM. */
function isEsm(file) {
  for (let directory = path.dirname(file); ; directory = path.dirname(directory)) {
    try {
      return JSON.parse(readFileSync(path.join(directory, "package.json"), "utf8")).type === "module";
    } catch (error) {
      if (error.code !== "ENOENT") return false;
    }
    if (directory === path.dirname(directory)) return false;
  }
}

module.exports = { loadHandler, RuntimeError, CALLBACKS };
