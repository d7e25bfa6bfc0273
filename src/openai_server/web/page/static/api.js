// What this page asks of its server.

const KEY = "openai-server.key";
// Never longer: the server refuses it, and a key is not that long.
const EVENT_LIMIT = 64 * 1024 * 1024;

/** Return the whole address of a path of this server's. */
export const address = (path) => new URL(path, new URL(".", location.href)).href;

export const storedKey = () => sessionStorage.getItem(KEY) ?? "";

export function storeKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

/** The server's answer was an error. */
export class Refusal extends Error {
  constructor(status, error) {
    super(error?.message ?? `The server answered with status ${status}.`);
    this.status = status;
    this.code = error?.code ?? null;
  }
}

/** Ask, and return the response; throw a Refusal where it is an error. */
export async function ask(path, { body, signal } = {}) {
  const key = storedKey();
  const response = await fetch(address(path), {
    method: body === undefined ? "GET" : "POST",
    headers: {
      "x-page": "1",
      ...(key ? { authorization: `Bearer ${key}` } : {}),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    body,
    signal,
    cache: "no-store",
  });
  if (!response.ok) throw new Refusal(response.status, await errorIn(response));
  return response;
}

async function errorIn(response) {
  try {
    return (await response.json()).error;
  } catch {
    return null;
  }
}

/** Yield the name and the data of each event of a stream. */
export async function* eventsOf(response) {
  // No TextDecoderStream: where the connection is cut it forgets what came before.
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const events = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = events.pop();
      if (rest.length > EVENT_LIMIT) throw new Error("The server sent an event without an end.");
      for (const event of events) {
        const lines = event.split("\n");
        const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        const name = lines.find((line) => line.startsWith("event:"))?.slice(6).trim() ?? "message";
        if (data.length) yield { name, data: data.join("\n") };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
