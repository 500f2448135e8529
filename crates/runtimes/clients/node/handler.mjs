// Finds the function that answers: `file.name`, `dir/file.name`, `file.object.method`.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

/** An error whose type Lambda's users know. */
export class RuntimeError extends Error {
  constructor(type, message, cause) {
    super(message);
    this.name = type;
    if (cause?.stack) this.stack = cause.stack;
  }
}

export async function loadHandler(root, definition) {
  const match = /^((?:.*\/)?)([^/.][^/]*?)\.([^/]+)$/.exec(definition);
  if (!match || definition.includes("..")) {
    throw new RuntimeError("Runtime.MalformedHandlerName", "Bad handler");
  }
  const [, directory, stem, names] = match;
  const module = await load(path.resolve(root, directory, stem), stem);
  const handler = names.split(".").reduce((value, name) => value?.[name], module);
  if (handler === undefined) {
    throw new RuntimeError("Runtime.HandlerNotFound", `${definition} is undefined or not exported`);
  }
  if (typeof handler !== "function") {
    throw new RuntimeError("Runtime.HandlerNotFound", `${definition} is not a function`);
  }
  return handler;
}

async function load(base, stem) {
  const file = ["", ".js", ".mjs", ".cjs"].map((ending) => base + ending).find((file) => existsSync(file));
  if (!file) {
    throw new RuntimeError("Runtime.ImportModuleError", `Error: Cannot find module '${stem}'`);
  }
  try {
    if (file.endsWith(".cjs")) return createRequire(pathToFileURL(file))(file);
    const module = await import(pathToFileURL(file));
    // What a CommonJS module exports is its default; ESM's own names win.
    const exported = module["module.exports"] ?? module.default;
    return exported && typeof exported === "object" ? { ...exported, ...module } : module;
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
