// What was just asked, as a command and as a program.
import { address } from "./api.js";
import { at } from "./dom.js";

const MESSAGES = 20;
const LONG_URL = 400;

let last = null;

/** Show how this request is made without the page. */
export function showCode(request, needsKey) {
  last = { request, needsKey };
  if (at("code").open) write();
}

export function startCode() {
  const wide = matchMedia("(min-width: 70rem)");
  const follow = () => (at("code").open = wide.matches);
  wide.addEventListener("change", follow);
  follow();
  at("code").addEventListener("toggle", () => at("code").open && write());
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", () => copy(button, at(button.dataset.of)));
  }
}

function write() {
  at("code-empty").hidden = last !== null;
  at("code-shown").hidden = last === null;
  if (last === null) return;
  const notes = [];
  const request = { ...last.request, messages: shortened(last.request.messages, notes) };
  delete request.stream_options;
  at("curl").textContent = curlOf(request, last.needsKey);
  at("python").textContent = pythonOf(request, last.needsKey);
  at("code-note").textContent = notes.join(" ");
}

function shortened(messages, notes) {
  let shown = messages;
  if (messages.length > MESSAGES) {
    shown = messages.slice(-MESSAGES);
    // Results without their call, or an answer without its question, make no sense.
    while (shown.length > 1 && shown[0].role !== "user") shown = shown.slice(1);
    notes.push(`Only the last ${shown.length} of ${messages.length} messages are here.`);
  }
  const copied = JSON.parse(JSON.stringify(shown));
  for (const part of copied.flatMap((message) => (Array.isArray(message.content) ? message.content : []))) {
    if (part.image_url?.url.length > LONG_URL) {
      part.image_url.url = part.image_url.url.replace(/,.*/s, ",YOUR_PICTURE");
      notes.push("Put your picture in base64 in place of YOUR_PICTURE.");
    }
  }
  return copied;
}

export function curlOf(request, needsKey) {
  const key = needsKey ? `  -H "Authorization: Bearer $OPENAI_API_KEY" \\\n` : "";
  const body = JSON.stringify(request, null, 2);
  const url = address("v1/chat/completions");
  return `curl -N ${url} \\\n  -H 'Content-Type: application/json' \\\n${key}  -d @- <<'JSON'\n${body}\nJSON\n`;
}

export function pythonOf(request, needsKey) {
  const members = Object.entries(request).map(([name, value]) => `    ${name}=${literal(value, "    ")},\n`);
  const key = needsKey ? "YOUR_API_KEY" : "unused";
  return `from openai import OpenAI

client = OpenAI(base_url="${address("v1")}", api_key="${key}")
stream = client.chat.completions.create(
${members.join("")})
for chunk in stream:
    for choice in chunk.choices:
        print(choice.delta.content or "", end="", flush=True)
        for call in choice.delta.tool_calls or ():
            print(call.function)
print()
`;
}

function literal(value, indent) {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}    `;
  const isList = Array.isArray(value);
  const items = isList
    ? value.map((each) => literal(each, inner))
    : Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each, inner)}`);
  const [left, right] = isList ? ["[", "]"] : ["{", "}"];
  if (!items.length) return left + right;
  return `${left}\n${items.map((item) => `${inner}${item},\n`).join("")}${indent}${right}`;
}

async function copy(button, block) {
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(block.textContent);
    button.textContent = "Copied";
  } catch {
    // Without encryption a browser may refuse: then it is marked to be copied by hand.
    getSelection().selectAllChildren(block);
    button.textContent = "Marked";
  }
  setTimeout(() => (button.textContent = said), 1500);
}
