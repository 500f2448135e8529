// Greets, after an optional pause, and says which instance did.

import { setTimeout } from "node:timers/promises";

export const handler = async (event, context) => {
  await setTimeout(event.sleep_ms ?? 0);
  const name = event.name ?? "world";
  console.log(`greeting ${name}`);
  return {
    message: `Hello, ${name}, from Node.js ${process.version}!`,
    instance: context.logStreamName,
    request_id: context.awsRequestId,
  };
};
