// Answers the event and what the context says of the request.
export const handler = async (event, context) => {
  if (event.fail) throw new TypeError(event.fail);
  return {
    event,
    request_id: context.awsRequestId,
    arn: context.invokedFunctionArn,
    memory: context.memoryLimitInMB,
    remaining: context.getRemainingTimeInMillis(),
    node: process.version,
  };
};
