// Numbers as a person reads them. null is what nobody knows, "never" a time that does not come.

const UNKNOWN = "–";
const plain = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function count(n) {
  return n == null ? UNKNOWN : plain.format(n);
}

export function short(n) {
  if (n == null) return UNKNOWN;
  for (const [size, unit] of [[1e9, " G"], [1e6, " M"], [1e4, " k"]]) {
    if (Math.abs(n) >= size) {
      const scaled = n / (unit === " k" ? 1e3 : size);
      return (scaled >= 100 ? scaled.toFixed(0) : scaled.toFixed(1)) + unit;
    }
  }
  return plain.format(n);
}

export function rate(n) {
  if (n == null) return UNKNOWN;
  return n > 0 && n < 10 ? n.toFixed(1) : short(n);
}

export function seconds(s) {
  if (s == null) return UNKNOWN;
  if (s === "never") return "never";
  if (s === 0) return "0 s";
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${s.toFixed(0)} s`;
  const minutes = Math.round(s / 60);
  if (minutes < 120) return `${minutes} min`;
  if (minutes < 2880) return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
  const hours = Math.round(s / 3600);
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${hours / 24} d`;
}

export function drain(s) {
  return s === "never" ? "not draining" : seconds(s);
}

export function bytes(n) {
  if (n == null) return UNKNOWN;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let k = 0;
  while (n >= 1000 && k < units.length - 1) { n /= 1000; k += 1; }
  return `${k && n < 100 ? n.toFixed(1) : n.toFixed(0)} ${units[k]}`;
}

export function z(value, digits = 3) {
  return value == null ? UNKNOWN : value.toFixed(digits);
}

export function part(p) {
  if (p == null) return UNKNOWN;
  const percent = 100 * p;
  return `${percent >= 10 ? percent.toFixed(0) : percent >= 0.1 ? percent.toFixed(1) : percent.toFixed(2)} %`;
}

export function clock(t) {
  return t == null ? UNKNOWN : new Date(t * 1000).toISOString().slice(11, 19);
}

export function moment(t) {
  return t == null ? UNKNOWN : new Date(t * 1000).toISOString().slice(0, 19).replace("T", " ");
}

export function day(t) {
  return t == null ? UNKNOWN : new Date(t * 1000).toISOString().slice(0, 10);
}
