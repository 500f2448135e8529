// Draws random numbers in all ways that Node.js's users know, most of them before the snapshot already.

import crypto, { randomBytes, randomInt, randomUUID, webcrypto } from "node:crypto";

Math.random();
randomBytes(8);
randomInt(2 ** 40);
randomUUID();
crypto.generateKeyPairSync("ed25519");

export const handler = async (event) => {
  if (event.exit) process.exit(0);
  return {
    math: Math.random(),
    bytes: randomBytes(8).toString("hex"),
    integer: randomInt(2 ** 40),
    uuid: randomUUID(),
    web: Buffer.from(webcrypto.getRandomValues(new Uint8Array(8))).toString("hex"),
    key: crypto.generateKeyPairSync("ed25519").publicKey.export({ type: "spki", format: "der" }).toString("hex"),
  };
};
