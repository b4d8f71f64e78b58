// The newest rows, and an object that somebody asks for: its PDFs and where they come from.

import { pdf } from "./charts.js";
import { at, make, replace, say } from "./dom.js";
import * as f from "./format.js";

let asked = 0;

export function start() {
  at("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = at("object").value.trim();
    if (!id) return;
    if (location.hash === address(id)) find(id);
    else location.hash = address(id);
  });
  at("found-close").addEventListener("click", () => {
    history.pushState(null, "", location.pathname);
    at("found").hidden = true;
    at("object").focus();
  });
  addEventListener("hashchange", followed);
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      at("object").focus();
      at("object").select();
    }
  });
  followed();
}

const address = (id) => `#object=${encodeURIComponent(id)}`;

function followed() {
  if (!location.hash.startsWith("#object=")) return;
  let id = location.hash.slice(8);
  try { id = decodeURIComponent(id); } catch { /* somebody typed it: as it stands */ }
  at("object").value = id;
  find(id);
}

async function find(id) {
  const turn = (asked += 1);
  at("found").hidden = false;
  say(at("found-title"), id);
  say(at("found-note"), "Looking …");
  replace(at("found-rows"));
  let answer;
  try {
    const got = await fetch(`api/object.json?${new URLSearchParams({ id })}`);
    answer = await got.json();
  } catch {
    answer = { trouble: "The monitor does not answer." };
  }
  if (turn !== asked) return; // another was asked for meanwhile
  if (answer.trouble) {
    say(at("found-note"), answer.trouble);
  } else {
    const n = answer.rows.length + answer.more;
    const where = answer.whole ? `the catalogue’s ${f.count(answer.held)} rows` : "the newest files; slipher catalog show looks through all";
    const more = answer.more ? ` The newest ${answer.rows.length} are drawn.` : "";
    say(at("found-note"), n ? `${n} row${n === 1 ? "" : "s"} in ${where}.${more}` : `Not in ${where}.`);
    const ends = answer.rows.filter((r) => r.pdf).map((r) => r.z_max);
    const end = ends.length > 1 ? reach(answer.rows) : null;
    replace(at("found-rows"), ...answer.rows.map((row) => panel(row, end)));
  }
  if (document.activeElement === at("object") && at("object").value.trim() !== id) return; // somebody types the next one
  at("found-title").focus({ preventScroll: true });
  at("found").scrollIntoView({ block: "nearest" });
}

// One scale for all rows of an object: they are there to be held against each other.
function reach(all) {
  return Math.max(...all.filter((r) => r.pdf).map((r) => {
    const peak = Math.max(...r.pdf);
    return Math.min(r.z_max, Math.max(0.4, ((r.pdf.findLastIndex((v) => v > peak * 0.004) + 4) / (r.pdf.length - 1)) * r.z_max));
  }));
}

function panel(row, end) {
  const facts = [
    ["z best", f.z(row.z_best)], ["median", f.z(row.z_median)], ["mode", f.z(row.z_mode)], ["σ", f.z(row.z_sigma)],
    ["68 %", `${f.z(row.z_lo68)} – ${f.z(row.z_hi68)}`], ["95 %", `${f.z(row.z_lo95)} – ${f.z(row.z_hi95)}`], ["odds", f.z(row.odds_0p03, 2)],
    ["magnitude", f.z(row.mag_ref, 2)],
  ];
  const took = row.kafka_timestamp == null || row.ingest_time == null ? "" : `, ${f.seconds(Math.max(row.ingest_time - row.kafka_timestamp, 0))} after it was sent`;
  const provenance = [
    ["from", `${row.topic}, partition ${row.kafka_partition}, offset ${row.kafka_offset}, row ${row.kafka_row}`],
    ["topic id", `${row.topic_id}, cluster ${row.cluster_id}`],
    ["alert", row.mjd == null ? row.alert_id : `${row.alert_id}, MJD ${row.mjd.toFixed(5)}`],
    ["position", `${row.ra.toFixed(6)}°, ${row.dec >= 0 ? "+" : ""}${row.dec.toFixed(6)}°; E(B–V) ${row.ebv == null ? "unknown" : row.ebv.toFixed(3)}`],
    ["bands", `${row.bands.join(" ") || "none"}${row.dark.length ? `; not detected: ${row.dark.join(" ")}` : ""}`],
    ["computed", `${f.moment(row.ingest_time)}${took}`],
    ["by", `processing ${row.processing_id}, slipher ${row.slipher_version}${row.bundle ? `, bundle ${row.bundle.slice(0, 16)}, decoder ${row.decoder}` : ""}`],
  ];
  const list = (items, style) => make("dl", { class: style }, ...items.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  const flags = row.flags.length ? make("ul", { class: "flags" }, ...row.flags.map(([, text]) => make("li", {}, text))) : null;
  return make("article", { class: "row" }, make("h3", {}, row.model, make("span", { class: "soft" }, ` night ${row.night}`)), make("div", { class: "pair" }, make("div", {}, pdf(row, [460, 150], end), list(facts, "points"), flags), list(provenance, "facts")));
}

export function newest(all) {
  replace(at("newest-rows"), ...all.map((row) => {
    const link = make("a", { href: address(row.object_id) }, row.object_id);
    const interval = row.z_lo68 == null ? "" : `${f.z(row.z_lo68)} – ${f.z(row.z_hi68)}`;
    const flags = row.flags.length ? make("p", { class: "note", title: row.flags.map(([, text]) => text).join("; ") }, row.flags.map(([name]) => name.toLowerCase().replaceAll("_", " ")).join(", ")) : null;
    return make("li", {}, make("p", { class: "id" }, link), pdf(row), make("p", { class: "z" }, make("b", {}, `z ${f.z(row.z_best)}`), make("span", { class: "soft" }, interval)), make("p", { class: "note" }, `${f.clock(row.ingest_time)} · ${row.topic} ${row.kafka_partition}:${row.kafka_offset}`), flags);
  }));
  at("newest").hidden = !all.length;
}
