// For a process that is saved after its init phase and goes on in many instances: no two of them may draw the same random
// numbers, whatever was drawn before. The kernel's are fresh in each; what Node.js keeps for itself is not, and is seen to here.

"use strict";

const crypto = require("node:crypto");
const { readFileSync } = require("node:fs");

const { RuntimeError } = require("./handler.cjs");

/** Buffers of drawn numbers inside node:crypto: 128 UUIDs, and 6 KiB for integers of 6 bytes. */
const CACHED_UUIDS = 128;
const CACHED_INTEGERS = 1024;

/** Drawn at once for Math.random, two for each number. */
const pool = new Uint32Array(256);
let used = pool.length;

function random() {
  if (used >= pool.length) {
    crypto.randomFillSync(pool);
    used = 0;
  }
  const high = pool[used] >>> 5;
  const low = pool[used + 1] >>> 6;
  used += 2;
  // 53 bits.
  return (high * 0x4000000 + low) / 0x20000000000000;
}

/** Before any of the function's code runs. Returns what is to be done in each instance, before the function goes on. */
function prepare() {
  // openssl.cnf has OpenSSL draw from the processor, where that can.
  if (!/^flags\s*:.*\brdrand\b/m.test(readFileSync("/proc/cpuinfo", "utf8"))) {
    throw new RuntimeError(
      "Runtime.SnapStartUnsupported",
      "this processor draws no random numbers, without which all instances made from one snapshot would draw the same",
    );
  }
  // V8's is seeded once, and cannot be again.
  Math.random = random;
  return forgetDrawn;
}

function forgetDrawn() {
  used = pool.length;
  for (let drawn = 0; drawn < CACHED_UUIDS; drawn += 1) crypto.randomUUID();
  for (let drawn = 0; drawn < CACHED_INTEGERS; drawn += 1) crypto.randomInt(2);
}

module.exports = { prepare };
