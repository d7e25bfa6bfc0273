// Speaks the Responses API with the official package, and prints what it saw as one JSON object.
// Usage: node responses.mjs BASE_URL
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "unused", maxRetries: 0 });
const seen = {};

const kinds = [];
const stream = client.responses.stream({ model: "echo", input: "one two three" });
stream.on("event", (event) => kinds.push(event.type));
const final = await stream.finalResponse();
seen.kinds = kinds;
seen.text = final.output_text;
seen.status = final.status;

const numbers = [];
const resumed = client.responses.stream({ response_id: final.id, starting_after: 3 });
resumed.on("event", (event) => numbers.push(event.sequence_number));
try {
  await resumed.finalResponse();
  seen.resumed = "final";
} catch (error) {
  seen.resumed = error.message;
}
seen.numbers = numbers;

const whole = client.responses.stream({ response_id: final.id });
seen.again = (await whole.finalResponse()).output_text;

const rest = [];
for await (const event of await client.responses.retrieve(final.id, { stream: true, starting_after: 4 })) {
  rest.push(event.sequence_number);
}
seen.rest = rest;

const tools = [{ type: "function", name: "look", parameters: { type: "object", properties: {} }, strict: false }];
const script = JSON.stringify([{ tool: "look", args: {}, saying: "seen {result}" }]);
const asked = await client.responses.stream({ model: "script", input: `#script ${script}`, tools }).finalResponse();
const call = asked.output.find((item) => item.type === "function_call");
const output = [{ type: "function_call_output", call_id: call.call_id, output: "it" }];
const told = client.responses.stream({ model: "script", input: output, tools, previous_response_id: asked.id });
seen.told = (await told.finalResponse()).output_text;

const background = await client.responses.create({ model: "echo", input: "later", background: true });
seen.queued = background.status;
let polled = background;
for (let tries = 0; tries < 200 && ["queued", "in_progress"].includes(polled.status); tries++) {
  polled = await client.responses.retrieve(background.id);
}
seen.later = polled.output_text;

console.log(JSON.stringify(seen));
