// Is it keeping up: the verdict, the figures, topics and models, and the partitions of the one that is chosen.

import { Chart, LINES, spark } from "./charts.js";
import { at, make, replace, rows, say } from "./dom.js";
import * as f from "./format.js";

const SIGN = { good: "✓", warn: "!", bad: "✕", unknown: "?" };
const LEVEL = { ok: "good", warning: "warn", "falling behind": "warn" };
const lagChart = new Chart("lag-chart", 230);
const rateChart = new Chart("rate-chart", 230);

let chosen = null; // "topic\nmodel"
let picked = false; // by a person: else the worst is shown
let now = null; // the last look
let history = null;
let asking = false;

const keyOf = (group) => `${group.topic}\n${group.model}`;
const option = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

export function start() {
  for (const input of document.querySelectorAll("#detail input")) input.addEventListener("change", () => refresh(true));
  at("partitions").addEventListener("toggle", () => refresh());
}

export function look(state) {
  now = state;
  verdict(state);
  tiles(state.totals);
  if (!picked || !state.totals.some((t) => keyOf(t) === chosen)) {
    const worst = [...state.totals].sort((a, b) => rank(b) - rank(a))[0];
    chosen = worst ? keyOf(worst) : null;
    picked = picked && chosen !== null && state.totals.some((t) => keyOf(t) === chosen);
  }
  groups();
  refresh();
}

function rank(total) {
  return ["ok", "warning", "falling behind", "stalled", "stopped", "rewound", "at risk of loss"].indexOf(total.status) * 1e12 + (total.lag_seconds ?? 0);
}

function verdict(state) {
  const { line, keeping_up: keeping, stuck, lost } = state.verdict;
  at("verdict").className = `verdict ${line.level}`;
  say(at("line"), line.text);
  const answers = [["Keeping up", keeping], ["Stuck", stuck], ["Lost", lost]].filter(([, answer]) => answer.text !== line.text);
  rows(at("answers"), answers, ([name]) => name,
    () => make("li", {}, make("span", { class: "sign", "aria-hidden": "true" }), make("span", {})),
    (item, [, answer]) => {
      item.className = answer.level;
      say(item.firstChild, SIGN[answer.level]);
      say(item.lastChild, answer.text);
    });
  document.title = `${SIGN[line.level]} ${state.catalogue.split("/").pop()} · slipher monitor`;
}

function tiles(totals) {
  const known = (name) => totals.map((t) => t[name]).filter((v) => v != null);
  const sum = (name) => (known(name).length ? known(name).reduce((a, b) => a + b, 0) : null);
  const most = (name) => (known(name).length ? (known(name).includes("never") ? "never" : Math.max(...known(name))) : null);
  const times = known("loss_seconds");
  const soonest = times.length ? (times.every((t) => t === "never") ? "never" : Math.min(...times.filter((t) => t !== "never"))) : null;
  const size = sum("lag_bytes");
  const items = [
    ["behind", f.seconds(most("lag_seconds")), "age of the oldest message not durable"],
    ["waiting", f.short(sum("lag")), size ? `messages, ${f.bytes(size)}` : "messages"],
    ["arriving", f.rate(sum("produce_rate")), "messages a second"],
    ["durable", f.rate(sum("consume_rate")), "messages a second"],
    ["caught up in", f.drain(most("drain_seconds")), "at these rates"],
    ["first loss in", f.seconds(soonest), "when retention takes an unread one"],
  ];
  rows(at("tiles"), items, ([name]) => name,
    ([name, , about]) => make("div", {}, make("dt", {}, name), make("dd", { class: "figure" }), make("dd", { class: "soft" }, about)),
    (tile, [, value, about]) => { say(tile.children[1], value); say(tile.children[2], about); });
}

function groups() {
  const lines = new Map((history?.lines ?? []).map((line) => [keyOf(line), line]));
  rows(at("groups-rows"), now.totals, keyOf, freshGroup, (row, t) => {
    const here = keyOf(t) === chosen;
    row.className = here ? "chosen" : "";
    row.firstChild.firstChild.setAttribute("aria-pressed", String(here));
    status(row.children[1], t, t.partitions > 1 && t.status !== "ok" ? ` · ${t.counts[t.status]} of ${t.partitions}` : "");
    [f.count(t.lag), f.seconds(t.lag_seconds)].forEach((text, k) => say(row.children[2 + k], text));
    [f.rate(t.produce_rate), f.rate(t.consume_rate), f.drain(t.drain_seconds), f.seconds(t.loss_seconds)].forEach((text, k) => say(row.children[5 + k], text));
    const line = lines.get(keyOf(t));
    if (line && row.dataset.drawn !== String(history.number)) {
      row.dataset.drawn = history.number;
      replace(row.children[4], spark(line.lag, `messages waiting, last hour, at most ${f.count(Math.max(0, ...line.lag.filter((v) => v != null)))}`));
    }
  });
  at("groups").hidden = now.totals.length === 0;
  at("detail").hidden = now.totals.length === 0;
}

function freshGroup(t) {
  const button = make("button", { type: "button", class: "pick" }, make("span", { class: "topic" }, t.topic), make("span", { class: "soft" }, t.model));
  button.addEventListener("click", () => { chosen = keyOf(t); picked = true; groups(); refresh(true); });
  return make("tr", {}, make("th", { scope: "row" }, button), make("td", { class: "text" }), ...Array.from({ length: 7 }, (_, k) => make("td", { class: k === 2 ? "more" : null })));
}

function status(cell, { status: name, why }, more = "") {
  const level = LEVEL[name] ?? "bad";
  cell.className = `text status ${level}`;
  cell.title = why;
  say(cell, name + more);
}

// The lines of what is chosen. One question at a time: a slow answer is not asked for twice.
async function refresh(force = false) {
  if (!now || !chosen || (document.hidden && !force)) return;
  if (asking) { asking = force ? "again" : asking; return; }
  asking = "yes";
  try {
    const span = option("span");
    const [topic, model] = chosen.split("\n");
    const query = new URLSearchParams({ topic, model, span });
    const [whole, parts] = await Promise.all([ask(`api/history.json?span=${span}`), ask(`api/partitions.json?${query}`)]);
    if (span === "hour") history = { ...whole, number: now.number };
    drawLag(parts, model, topic);
    drawRates(whole);
    partitions(parts);
    if (span === "hour") groups();
  } catch { /* the link's dot says that the monitor is away; the next look asks again */ }
  const again = asking === "again";
  asking = false;
  if (again) refresh(true);
}

async function ask(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.json();
}

function drawLag(parts, model, topic) {
  const unit = option("unit");
  say(at("detail-title"), topic);
  const total = now.totals.find((t) => keyOf(t) === chosen);
  const some = parts.partitions > LINES ? `the ${LINES} worst of ${parts.partitions} partitions` : "by partition";
  say(at("lag-caption"), `${unit === "lag" ? "Messages waiting" : "Seconds behind"}, ${some}`);
  const series = parts.lines.map((line, k) => ({ label: String(line.partition), colour: `line${k}` }));
  lagChart.show(series, [parts.times, ...parts.lines.map((line) => line[unit])], { time: true, unit: unit === "lag" ? "messages" : "seconds" });
  say(at("lag-says"), total ? `Now ${f.count(total.lag)} messages and ${f.seconds(total.lag_seconds)} behind; worst is partition ${total.worst}: ${total.why}` : "");
}

function drawRates(whole) {
  const line = whole.lines.find((one) => keyOf(one) === chosen);
  if (!line) return;
  rateChart.show([
    { label: "arriving", colour: "line1", dash: [5, 3] },
    { label: "durable", colour: "line0", fill: true },
  ], [whole.times, line.produce_rate, line.consume_rate], { time: true, unit: "rate" });
  say(at("rate-says"), `Now ${f.rate(line.produce_rate.at(-1))} arriving and ${f.rate(line.consume_rate.at(-1))} durable a second`);
}

function partitions(parts) {
  say(at("partitions").querySelector("summary"), `Partitions (${parts.partitions})`);
  if (!at("partitions").open) return;
  rows(at("partition-rows"), parts.rows, (s) => String(s.partition),
    (s) => make("tr", {}, make("th", { scope: "row" }, s.partition), ...Array.from({ length: 9 }, () => make("td"))),
    (row, s) => {
      [f.count(s.durable), f.count(s.end), f.count(s.lag), f.seconds(s.lag_seconds), f.rate(s.produce_rate), f.rate(s.consume_rate), f.drain(s.drain_seconds), f.seconds(s.loss_seconds)]
        .forEach((text, k) => say(row.children[1 + k], text));
      status(row.children[9], s, s.why ? `: ${s.why}` : "");
    });
  const left = parts.partitions - parts.rows.length;
  say(at("partition-note"), left > 0 ? `${f.count(left)} more, none of them worse, are not listed: slipher lag lists all.` : "");
}
