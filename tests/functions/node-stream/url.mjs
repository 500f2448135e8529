// For a function URL: answers with the event, or as the event's body says.
export const handler = async (event) => {
  if (event.rawPath === "/fail") throw new Error("as told");
  if (event.rawPath === "/bare") return { seen: event.rawPath };
  if (event.rawPath === "/image") {
    return { statusCode: 200, headers: { "content-type": "image/png" }, body: Buffer.from([1, 2, 255]).toString("base64"), isBase64Encoded: true };
  }
  if (event.rawPath === "/cookies") return { statusCode: 302, headers: { location: "/next" }, cookies: ["a=1; Secure", "b=2"] };
  if (event.rawPath === "/wrong") return { statusCode: 200, body: { an: "object" } };
  return { statusCode: 200, headers: { "content-type": "application/json" }, body: JSON.stringify(event) };
};
