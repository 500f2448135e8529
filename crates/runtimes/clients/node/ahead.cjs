// For a process that is started before its function is known: it waits here, and then is as one that was started for that
// function. Nothing of a function is in its sandbox until then.

"use strict";

const fs = require("node:fs");

/** What the worker sets for such a process, with spaces for a value: room for a function's variables. */
const WAIT = "HEARTH_WAIT_FOR_FUNCTION";

function receive(length) {
  const bytes = Buffer.alloc(length);
  for (let received = 0; received < length; ) {
    const piece = fs.readSync(0, bytes, received, length - received);
    // Nobody needs it.
    if (piece === 0) process.exit(0);
    received += piece;
  }
  return bytes.toString();
}

/** Waits for the function, if it is not known yet. */
function waitForFunction() {
  if (!(WAIT in process.env)) return;
  fs.writeSync(0, "\n");
  const told = receive(Number(receive(8))).split("\0");
  const [count, ...rest] = told.slice(0, -1);
  for (const name of Object.keys(process.env)) delete process.env[name];
  for (const variable of rest.slice(Number(count))) {
    const equals = variable.indexOf("=", 1);
    process.env[variable.slice(0, equals)] = variable.slice(equals + 1);
  }
  // Now nothing points any more to where the kernel keeps what the process was started with: the worker writes the function's
  // variables there.
  fs.writeSync(0, "\n");
  receive(1);
  fs.closeSync(0);
  // The lowest number that is free is this one.
  fs.openSync("/dev/null", "r");
  // The directory that it was in is covered by the function's code now.
  process.chdir(process.cwd());
}

module.exports = { waitForFunction };
