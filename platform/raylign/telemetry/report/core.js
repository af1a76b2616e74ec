// What all views share: data, elements, numbers, colours.

const RUN = JSON.parse(document.getElementById("run").textContent);
const SERIES = 8; // colours that can be told apart, --s0 to --s7
const SVG = "http://www.w3.org/2000/svg";
const unpacked = new Map(); // name -> promise of the content of a packed script element

// The content of a packed script element, unpacked once.
function data(name) {
  if (!unpacked.has(name)) unpacked.set(name, unpack(name));
  return unpacked.get(name);
}

async function unpack(name) {
  const element = document.getElementById(name);
  if (!element) return null;
  const binary = atob(element.textContent);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// el("div", {class: "card", onclick: f}, child, "text", ...): an element; children may be arrays, null is left out.
function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined).map(asNode));
  return element;
}

function asNode(child) {
  return child instanceof Node ? child : document.createTextNode(String(child));
}

function svg(tag, attributes = {}, text = null) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

// A number for people: four digits, thousands separated, small and large ones with an exponent.
function fmt(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e6) return value.toExponential(2).replace("e+", "e");
  if (size < 1e-3) return value.toExponential(1);
  if (size >= 1e4) return Math.round(value).toLocaleString("en");
  return Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 });
}

// A count with its unit: 1234567 -> 1.23 M
function count(value) {
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (value >= size) return `${Number((value / (unit === "k" ? 1e3 : size)).toPrecision(3))} ${unit}`;
  }
  return Math.round(value).toLocaleString("en");
}

function seconds(value) {
  if (value < 60) return `${Number(value.toPrecision(3))} s`;
  const whole = Math.round(value);
  const pad = (n) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h ? `${h}:${pad(m)}:${pad(s)}` : `${m}:${pad(s)}`;
}

// The number that a step of the run has within its stage.
function stageStep(name, step) {
  const stage = RUN.stages.find((each) => each.name === name);
  return stage && stage.first !== null ? step - stage.first + 1 : step;
}

function percent(value) {
  return `${(value * 100).toFixed(1)} %`;
}

function series(number) {
  return `var(--s${number % SERIES})`;
}

// Round numbers that enclose [low, high].
function ticks(low, high, wanted = 4) {
  const span = high - low || Math.abs(high) || 1;
  const raw = span / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(Math.ceil(high / step - 1e-9), first + 1);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

// Ticks of a time axis: whole seconds, minutes or hours where the range allows.
function timeTicks(low, high, wanted = 4) {
  const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400].find((s) => (high - low) / s <= wanted);
  if (high - low < 4 || !step) return ticks(low, high, wanted);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

// Calls f after `wait` milliseconds of silence.
function later(f, wait) {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => f(...args), wait);
  };
}

// Lets the browser draw and answer before more work is done.
function breathe() {
  return new Promise((done) => setTimeout(done));
}

// A table of rows of cells; numbers to the right. head: labels, or null.
function tableOf(head, rows, keyed = true) {
  const cell = (value, i) => {
    const kind = typeof value === "number" ? "n" : i === 0 && keyed ? "key" : null;
    return el("td", { class: kind }, value instanceof Node ? value : typeof value === "number" ? fmt(value) : value);
  };
  const numeric = (i) => rows.length && rows.every((row) => typeof row[i] === "number");
  return el("table", {},
    head ? el("thead", {}, el("tr", {}, head.map((text, i) => el("th", { class: numeric(i) ? "n" : null }, text)))) : null,
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell)))));
}
