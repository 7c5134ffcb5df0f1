// Sends the events that it is given as JSON, by the CloudEvents SDK for JavaScript, and prints what is answered.
//
// node producer.cjs URL < [{"mode": "binary" | "structured" | "batch", "events": [{...}]}, ...]

const { readFileSync } = require("node:fs");
const { CloudEvent, Mode, emitterFor } = require("cloudevents");

const url = process.argv[2];

async function post({ headers, body }) {
  const answer = await fetch(url, { method: "POST", headers, body, redirect: "error" });
  return { status: answer.status, duplicate: answer.headers.has("x-duplicate"), body: await answer.json() };
}

const emitters = {
  binary: emitterFor(post, { mode: Mode.BINARY }),
  structured: emitterFor(post, { mode: Mode.STRUCTURED }),
};

function eventOf({ data_hex: hex, ...attributes }) {
  return new CloudEvent(hex === undefined ? attributes : { ...attributes, data: new Uint8Array(Buffer.from(hex, "hex")) });
}

async function main() {
  for (const { mode, events } of JSON.parse(readFileSync(0, "utf8"))) {
    if (mode === "batch") {
      // The SDK reads batches and writes none.
      const headers = { "content-type": "application/cloudevents-batch+json" };
      const answer = await post({ headers, body: JSON.stringify(events.map(eventOf)) });
      console.log(JSON.stringify(answer));
      continue;
    }
    for (const event of events) {
      console.log(JSON.stringify(await emitters[mode](eventOf(event))));
    }
  }
}

main();
