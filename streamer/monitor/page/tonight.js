// The night's science: redshifts beside the training set's, calibration, what was refused, flags, models.

import { bars, Chart } from "./charts.js";
import { at, make, replace, rows, say } from "./dom.js";
import * as f from "./format.js";

const nzChart = new Chart("nz-chart", 250);
let data = null;

export function start() {
  at("model").addEventListener("change", draw);
  new ResizeObserver(() => data && draw()).observe(at("pit-chart"));
}

export function show(tonight) {
  data = tonight;
  const names = data.models.map((m) => m.model);
  const select = at("model");
  if (names.join() !== [...select.options].map((o) => o.value).join()) {
    const before = select.value;
    const most = [...data.models].sort((a, b) => b.rows - a.rows)[0]?.model;
    replace(select, ...names.map((name) => make("option", { value: name }, name)));
    select.value = names.includes(before) ? before : most ?? "";
  }
  select.hidden = names.length < 2;
  draw();
  refusals(data.refusals);
  models(data.registered ?? [], data.models);
}

function draw() {
  const part = data.models.find((m) => m.model === at("model").value) ?? data.models[0];
  say(at("tonight-title"), data.night ? `Tonight, ${data.night}` : "Tonight");
  if (data.trouble) say(at("tonight-note"), `The catalogue could not be read: ${data.trouble}`);
  else if (!part) say(at("tonight-note"), "The catalogue has no rows yet.");
  if (!part) return;
  if (!data.trouble) say(at("tonight-note"), `${f.count(part.rows)} rows of ${part.model}, ${f.bytes(part.bytes)}, the last at ${f.clock(part.newest)}.`);
  nz(part);
  calibration(part);
  flags(part);
}

function nz(part) {
  if (!part.stacked && !part.points) return;
  const n = part.stacked?.length ?? 301;
  const grid = Array.from({ length: n }, (_, k) => (k / (n - 1)) * part.z_max);
  const steps = (bins) => grid.map((z) => bins[Math.min(Math.floor((z / part.z_max) * bins.length + 1e-9), bins.length - 1)]);
  const lines = [{ label: "tonight, PDFs", colour: "line0", fill: true, width: 1.8 }];
  const columns = [part.stacked ?? grid.map(() => null)];
  lines.push({ label: "tonight, medians", colour: "line2", width: 1.2, stepped: true });
  columns.push(steps(part.medians));
  if (part.training) {
    lines.push({ label: "training set", colour: "line1", width: 1.4, dash: [5, 3], stepped: true });
    columns.push(steps(part.training));
  }
  const last = Math.max(...columns.map((c) => c.findLastIndex((v) => v > 0.01)), 10);
  nzChart.show(lines, [grid, ...columns], { unit: "density", xmax: Math.min(grid[Math.min(last + 8, n - 1)], part.z_max) });
  const training = part.training ? "" : " The model’s card does not hold the redshifts of its training set: it was trained by an earlier version.";
  say(at("nz-says"), `Of ${f.count(part.pdfs)} PDFs and ${f.count(part.points)} medians of ${f.count(part.rows)} rows.${training}`);
}

function calibration(part) {
  const place = at("pit-chart");
  if (part.pit) {
    const { n, density } = part.pit;
    say(at("pit-caption"), "Calibration: probability below the true redshift");
    bars(place, density, { level: 1, scatter: 2 * Math.sqrt((density.length - 1) / n), ticks: ["0", "0.25", "0.5", "0.75", "1"] });
    say(at("pit-says"), `Flat is calibrated; the band is ±2σ of counting. ${f.count(n)} rows with a known redshift.`);
  } else {
    const total = part.widths.reduce((a, b) => a + b, 0);
    say(at("pit-caption"), "Width of the PDFs: half of the 68 % interval / (1 + z)");
    bars(place, part.widths.map((v) => v / Math.max(total, 1)), { ticks: ["0", "0.1", "0.2", "0.3"] });
    say(at("pit-says"), data.truth ? "Too few rows with a known redshift to show calibration." : "With known redshifts (--truth) calibration stands here.");
  }
}

function bar(name, text, share, amount) {
  const width = Math.max(share * 100, 0.5);
  const scale = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  scale.setAttribute("viewBox", "0 0 100 4");
  scale.setAttribute("preserveAspectRatio", "none");
  scale.setAttribute("aria-hidden", "true");
  const piece = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  piece.setAttribute("width", width.toFixed(2));
  piece.setAttribute("height", "4");
  scale.append(piece);
  return make("li", {}, make("span", { class: "what" }, make("b", {}, name), make("span", { class: "soft" }, text)), make("span", { class: "amount" }, amount), scale);
}

function refusals(held) {
  const place = at("refusals");
  if (!held) return;
  if (!held.counts.length) {
    replace(place, make("p", { class: "soft" }, "Nothing was refused."));
    return;
  }
  const most = Math.max(...held.counts.map(([, n]) => n));
  replace(place, make("ul", { class: "barred" }, ...held.counts.map(([reason, n, text]) => bar(words(reason), text, n / most, f.count(n)))),
    held.whole ? null : make("p", { class: "note" }, "Older entries of the day are still being read."));
}

function flags(part) {
  const place = at("flags");
  if (!part.flags.length) {
    replace(place, make("p", { class: "soft" }, part.points ? "No row has a flag." : "No rows yet."));
    return;
  }
  replace(place, make("ul", { class: "barred" }, ...part.flags.slice(0, 8).map(({ flag, text, part: share }) => bar(words(flag), text, share, f.part(share)))));
}

function words(name) {
  return name.toLowerCase().replaceAll("_", " ");
}

function models(registered, tonight) {
  const rowsOf = new Map(tonight.map((m) => [m.processing_id, m]));
  rows(at("model-rows"), registered, (m) => m.processing_id, (m) => make("tr", {}, make("th", { scope: "row" }, m.model), ...Array.from({ length: 10 }, (_, k) => make("td", { class: [2, 7, 8].includes(k) ? "text" : null }))), (row, m) => {
    const here = rowsOf.get(m.processing_id);
    const bands = m.bands.every((b) => b.length === 1) ? m.bands.join("") : m.bands.join(" ");
    const galaxies = m.galaxies ? `${f.count(m.galaxies)} galaxies` : "–";
    [f.count(here?.rows ?? 0), f.clock(here?.newest), bands, galaxies, f.z(m.held_out.sigma_iqr, 4), f.part(m.held_out.outliers_15), f.z(m.held_out.pit_ks, 3), m.bundle_sha256.slice(0, 12), m.decoder, f.day(m.registered)]
      .forEach((text, k) => say(row.children[1 + k], text));
  });
  at("models").hidden = !registered.length;
}
