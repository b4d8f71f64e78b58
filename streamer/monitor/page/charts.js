// Charts: uPlot for what has axes and time, small drawings of our own for the rest. Colours are the style sheet's.

import { at, draw, make, rows, say } from "./dom.js";
import * as f from "./format.js";

export const LINES = 8;
const UNITS = { messages: f.short, seconds: f.seconds, rate: f.rate, density: (v) => f.z(v, 2) };

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// A chart with its key: made again when what it shows is of another shape, else only given its data.
export class Chart {
  constructor(id, height) {
    this.place = at(id);
    this.key = make("ul", { class: "key" });
    this.place.after(this.key);
    this.height = height;
    this.plot = null;
    this.shape = "";
    this.last = null;
    new ResizeObserver(() => this.fit()).observe(this.place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.again());
  }

  // series: [{label, colour, width, dash, fill, stepped}]; data: [x, ...]; options: {time, unit: a name of UNITS, xmax}
  show(series, data, options) {
    this.last = [series, data, options];
    if (!window.uPlot || !this.place.clientWidth) return;
    const shape = JSON.stringify([series, options]);
    if (this.plot && shape === this.shape) {
      this.plot.setData(data);
    } else {
      this.plot?.destroy();
      this.shape = shape;
      this.plot = new window.uPlot(this.options(series, options), data, this.place);
      this.place.dataset.drawn = "yes";
    }
    this.tell(null);
  }

  // The key: what each line is, and its value under the cursor, or its last.
  tell(index) {
    const [series, data, { time = false, unit }] = this.last;
    const items = series.map((line, k) => [line, index == null ? (time ? data[k + 1].at(-1) : null) : data[k + 1][index]]);
    const where = index == null ? (time ? "now" : "") : time ? f.clock(data[0][index]) : `z ${f.z(data[0][index], 2)}`;
    rows(this.key, [...items, [null, where]], ([line]) => line?.label ?? "", ([line]) => (line
      ? make("li", {}, draw("svg", { viewBox: "0 0 16 4", "aria-hidden": "true", class: line.colour }, draw("path", { d: "M0 2H16", "stroke-dasharray": line.dash ? "4 2" : null })), make("span", {}, line.label), make("b"))
      : make("li", { class: "when" })), (item, [line, value]) => say(line ? item.lastChild : item, line ? (value == null ? "" : UNITS[unit](value)) : value));
  }

  again() {
    this.shape = "";
    if (this.last) this.show(...this.last);
  }

  fit() {
    if (!this.last) return;
    if (!this.plot) this.show(...this.last);
    else this.plot.setSize({ width: this.place.clientWidth, height: this.height });
  }

  options(series, { time = false, unit: name, xmax = null }) {
    const unit = UNITS[name];
    const axis = { stroke: colour("soft"), font: "12px system-ui, sans-serif", grid: { stroke: colour("grid"), width: 1 }, ticks: { stroke: colour("grid"), width: 1, size: 4 } };
    return {
      width: this.place.clientWidth,
      height: this.height,
      tzDate: (t) => window.uPlot.tzDate(new Date(t * 1000), "Etc/UTC"),
      padding: [10, 10, 0, 0],
      cursor: { y: false, points: { size: 6 } },
      legend: { show: false },
      hooks: { setCursor: [(u) => this.tell(u.cursor.idx)] },
      scales: {
        x: time ? { time: true } : { time: false, range: () => [0, xmax] },
        y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] },
      },
      axes: [
        { ...axis, size: 30, space: 60, values: time ? hours : undefined },
        { ...axis, size: 58, space: 34, values: (_, ticks) => ticks.map((t) => tick(t, ticks, unit)) },
      ],
      series: [
        {},
        ...series.map((line) => ({
          stroke: colour(line.colour),
          width: line.width ?? 1.6,
          dash: line.dash,
          fill: line.fill ? `${colour(line.colour)}2b` : undefined,
          points: { show: false },
          spanGaps: false,
          paths: line.stepped ? window.uPlot.paths.stepped({ align: 1 }) : undefined,
        })),
      ],
    };
  }
}

// A tick has the digits that tell it from its neighbour.
function tick(value, ticks, unit) {
  const step = ticks.length > 1 ? ticks[1] - ticks[0] : 1;
  return value && step < 1 && unit !== UNITS.density ? `${value.toFixed(step < 0.1 ? 2 : 1)}${unit === f.seconds ? " s" : ""}` : unit(value);
}

function hours(_, ticks) {
  const step = ticks.length > 1 ? ticks[1] - ticks[0] : 60;
  return ticks.map((t) => (step < 60 ? f.clock(t) : f.clock(t).slice(0, 5)));
}

// A line without axes, for a cell of a table.
export function spark(values, label) {
  const known = values.filter((v) => v != null);
  const top = Math.max(...known, 1e-9);
  const n = values.length;
  let path = "";
  values.forEach((v, k) => {
    if (v == null) return;
    const broken = k === 0 || values[k - 1] == null;
    path += `${broken ? "M" : "L"}${((k / Math.max(n - 1, 1)) * 96 + 2).toFixed(1)} ${(20 - (v / top) * 17).toFixed(1)}`;
  });
  return draw("svg", { viewBox: "0 0 100 22", class: "spark", role: "img", "aria-label": label },
    draw("path", { d: "M2 20.5H98", class: "base" }), draw("path", { d: path, class: "line" }));
}

// Bars between 0 and 1 or so, with the band in which chance would put them.
export function bars(place, density, { level = null, scatter = 0, ticks }) {
  const [width, height, left, bottom, top] = [place.clientWidth || 520, 230, 34, 24, 10];
  const high = Math.max(...density, level ? 1.6 * level : 0, 1e-9) * 1.06;
  const y = (v) => height - bottom - (v / high) * (height - bottom - top);
  const w = (width - left - 8) / density.length;
  const parts = [];
  if (level != null && scatter) {
    parts.push(draw("rect", { x: left, width: width - left - 8, y: y(level + scatter), height: Math.max(y(Math.max(level - scatter, 0)) - y(level + scatter), 1), class: "band" }));
  }
  density.forEach((v, k) => parts.push(draw("rect", { x: left + k * w + 0.75, width: Math.max(w - 1.5, 1), y: y(v), height: Math.max(height - bottom - y(v), 0), class: "bar" })));
  if (level != null) parts.push(draw("path", { d: `M${left} ${y(level)}H${width - 8}`, class: "level" }));
  parts.push(draw("path", { d: `M${left} ${height - bottom}H${width - 8}`, class: "axis" }));
  ticks.forEach((label, k) => parts.push(draw("text", { x: left + (k / (ticks.length - 1)) * (width - left - 8), y: height - 6, "text-anchor": k === 0 ? "start" : k === ticks.length - 1 ? "end" : "middle" }, label)));
  if (level != null) parts.push(draw("text", { x: left - 6, y: y(level) + 4, "text-anchor": "end" }, f.z(level, 0)));
  place.replaceChildren(draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "bars", "aria-hidden": "true" }, ...parts));
  place.dataset.drawn = "yes";
}

// p(z): the curve, its 68 % interval shaded, the best estimate marked.
export function pdf(row, [width, height] = [300, 96], known = null) {
  const values = row.pdf;
  if (!values) return draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "pdf", role: "img", "aria-label": "no PDF" }, draw("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no PDF"));
  const step = row.z_max / (values.length - 1);
  const peak = Math.max(...values);
  const end = known ?? Math.min(row.z_max, Math.max(step * (values.findLastIndex((v) => v > peak * 0.004) + 4), 0.4));
  const foot = height - 16;
  const x = (z) => 1 + (z / end) * (width - 2);
  const y = (v) => foot - (v / peak) * (foot - 4);
  const line = (from, to) => {
    let d = "";
    for (let k = Math.max(Math.ceil(from / step), 0); k * step <= Math.min(to, end) + 1e-9 && k < values.length; k += 1) d += `${d ? "L" : "M"}${x(k * step).toFixed(1)} ${y(values[k]).toFixed(1)}`;
    return d;
  };
  const parts = [];
  const inside = row.z_lo68 == null ? "" : line(row.z_lo68, row.z_hi68);
  if (inside) {
    const [first, last] = [Math.ceil(row.z_lo68 / step) * step, Math.min(Math.floor(row.z_hi68 / step) * step, end)];
    parts.push(draw("path", { d: `${inside}L${x(last).toFixed(1)} ${foot}L${x(first).toFixed(1)} ${foot}Z`, class: "inside" }));
  }
  parts.push(draw("path", { d: `M0 ${foot}H${width}`, class: "axis" }), draw("path", { d: line(0, end), class: "curve" }));
  if (row.z_best != null && row.z_best <= end) parts.push(draw("path", { d: `M${x(row.z_best).toFixed(1)} ${foot}V2`, class: "best" }));
  parts.push(draw("text", { x: 1, y: height - 3 }, "0"), draw("text", { x: width - 1, y: height - 3, "text-anchor": "end" }, end.toFixed(end < 1 ? 2 : 1)));
  const label = `p(z) of ${row.object_id}: best ${f.z(row.z_best)}, 68 % between ${f.z(row.z_lo68)} and ${f.z(row.z_hi68)}`;
  return draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "pdf", role: "img", "aria-label": label }, ...parts);
}
