// How figures are written; the same as the commands write them. Unknown is "-", never 0.

// Control characters, and those that turn the direction of a text: names are chosen by others.
const GARBLES = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

export const plain = (text) => String(text ?? "").replace(GARBLES, "?");
export const known = (value) => value !== null && value !== undefined;

export function span(seconds) {
  if (!known(seconds)) return "-";
  const whole = Math.floor(seconds);
  for (const [size, unit, part] of [[86400, "d", 3600], [3600, "h", 60], [60, "m", 1]]) {
    if (whole >= size) {
      const rest = Math.floor((whole % size) / part);
      return `${Math.floor(whole / size)}${unit}${String(rest).padStart(2, "0")}`;
    }
  }
  return `${whole}s`;
}

export function size(number) {
  if (!known(number)) return "-";
  for (const unit of ["", "K", "M", "G"]) {
    if (number < 1024) return unit ? number.toFixed(1) + unit : number.toFixed(0);
    number /= 1024;
  }
  return number.toFixed(1) + "T";
}

export const whole = (number) => (known(number) ? number.toFixed(0) : "-");
export const percent = (number) => (known(number) ? number.toFixed(0) + "%" : "-");

export function lag(seconds) {
  if (!known(seconds)) return "-";
  return seconds >= 1 ? `${seconds.toFixed(1)}s` : `${(seconds * 1000).toFixed(1)}ms`;
}

export function rate(number) {
  if (!known(number)) return "-";
  for (const unit of ["", "k", "M"]) {
    if (number < 1000) return unit ? number.toFixed(1) + unit : number.toFixed(0);
    number /= 1000;
  }
  return number.toFixed(1) + "G";
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

export const called = (one) => `${plain(one.name)}@${one.pid ?? "-"}`;

export const keyOf = (one) => `${one.uuid || one.name}@${one.pid ?? ""}`;

// What is told of a state beside its colour: a sign, and whether somebody must look at it.
export const STATES = {
  run: ["", ""], boot: ["…", ""], repl: ["›_", "warn"], cancel: ["⊗", "warn"],
  blocked: ["■", "bad"], zombie: ["✖", "bad"], gone: ["✖", "bad"], lost: ["✖", "bad"],
  backoff: ["↻", "bad"], stopped: ["▮▮", "warn"], mute: ["?", "warn"],
};
export const sign = (one) => (STATES[one.state] ?? ["?", "warn"])[0];
export const grade = (one) => (STATES[one.state] ?? ["?", "warn"])[1];

export function matches(pattern, name) {
  if (!pattern) return true;
  const glob = /[*?]/.test(pattern) ? pattern : `*${pattern}*`;
  const parts = [...glob].map((c) =>
    c === "*" ? ".*" : c === "?" ? "." : c.replace(/[.+^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${parts.join("")}$`, "is").test(name);
}

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
