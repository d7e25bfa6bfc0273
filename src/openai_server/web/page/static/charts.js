// Small charts, drawn from what the stream tells.
import { at, drawn } from "./dom.js";
import { inFull, inShort } from "./numbers.js";

const WIDTH = 480;
const HEIGHT = 120;
const LEFT = 44;
const TOP = 8;
const BOTTOM = 20;
const MINUTES = 60;

function frame(label, most, format, start, end) {
  const line = (y) => drawn("line", { x1: LEFT, x2: WIDTH, y1: y, y2: y, class: "grid" });
  const text = (x, y, anchor, said) => drawn("text", { x, y, "text-anchor": anchor }, said);
  return drawn(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
    line(TOP),
    line(HEIGHT - BOTTOM),
    text(LEFT - 6, TOP + 5, "end", format(most)),
    text(LEFT - 6, HEIGHT - BOTTOM + 4, "end", format(0)),
    text(LEFT, HEIGHT - 5, "start", start),
    text(WIDTH, HEIGHT - 5, "end", end),
  );
}

/** Draw the tokens of the last hour, a bar a minute. */
export function drawTokens(minutes, now) {
  const byMinute = new Map(minutes.map((minute) => [minute.at, minute]));
  const last = Math.floor(now / 60) * 60;
  const most = Math.max(1, ...minutes.map((minute) => minute.inputTokens + minute.outputTokens));
  const scale = (HEIGHT - TOP - BOTTOM) / most;
  const step = (WIDTH - LEFT) / MINUTES;
  const sum = (name) => minutes.reduce((total, minute) => total + minute[name], 0);
  const about = `In the last hour ${inFull(sum("inputTokens"))} tokens in and ${inFull(sum("outputTokens"))} out, in ${inFull(sum("turns"))} turns.`;
  const chart = frame(about, most, inShort, "1 hour ago", "now");
  for (let place = 0; place < MINUTES; place++) {
    const minute = byMinute.get(last - (MINUTES - 1 - place) * 60);
    if (!minute) continue;
    let y = HEIGHT - BOTTOM;
    for (const [name, tokens] of [["in", minute.inputTokens], ["out", minute.outputTokens]]) {
      const height = tokens && Math.max(1, tokens * scale);
      y -= height;
      const title = drawn("title", {}, `${inFull(tokens)} ${name}`);
      chart.append(drawn("rect", { x: LEFT + place * step + 1, y, width: step - 2, height, class: `tokens-${name}` }, title));
    }
  }
  at("tokens").replaceChildren(chart);
  at("tokens-about").textContent = about;
}

/** Draw the times to the first token of the last requests, a dot each. */
export function drawFirsts(requests) {
  const times = requests.map((request) => request.firstTokenSeconds).filter((value) => value !== null);
  const sorted = [...times].sort((one, other) => one - other);
  const median = sorted[sorted.length >> 1] ?? 0;
  const most = Math.max(0.1, sorted.at(-1) ?? 0);
  const about = times.length
    ? `Half of the last ${times.length} answers began within ${median.toFixed(2)} s, all within ${most.toFixed(2)} s.`
    : "No answer yet.";
  const chart = frame(about, most, (value) => `${+value.toFixed(1)} s`, "earlier", "now");
  const y = (value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - TOP - BOTTOM);
  if (times.length) chart.append(drawn("line", { x1: LEFT, x2: WIDTH, y1: y(median), y2: y(median), class: "median" }));
  times.forEach((value, place) => {
    const x = WIDTH - 5 - (times.length - 1 - place) * Math.min(12, (WIDTH - LEFT - 10) / times.length);
    chart.append(drawn("circle", { cx: x, cy: y(value), r: 2.6, class: "first" }, drawn("title", {}, `${value.toFixed(2)} s`)));
  });
  at("firsts").replaceChildren(chart);
  at("firsts-about").textContent = about;
}
