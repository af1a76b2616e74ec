// One chart: lines that break where a stage ends, stage boundaries, alarms, and a cursor for mouse and keyboard.

const BOX = { width: 460, height: 196, left: 54, right: 10, top: 12, bottom: 28 };
const MAX_POINTS = 900; // drawn of one line; beyond, the lowest and the highest of each stretch

function chartCard(chart) {
  const legend = el("div", { class: "legend" });
  const picture = svg("svg", { viewBox: `0 0 ${BOX.width} ${BOX.height}`, tabindex: "0", role: "img", "aria-label": `curve of ${chart.title}` });
  const names = chart.lines.map((line) => line.metric).filter((name, i, all) => all.indexOf(name) === i);
  const unit = chart.unit && !chart.title.includes(chart.unit) ? el("span", { class: "unit" }, ` (${chart.unit})`) : null;
  const card = el("div", { class: "card chart", "data-title": chart.key, "data-unit": chart.unit }, el("h3", { title: names.join(", ") }, chart.title, unit,
    names.length === 1 && names[0] !== chart.title ? el("span", { class: "name" }, names[0]) : null), picture, legend);
  card.style.aspectRatio = "auto";
  const state = { ...chart, card, picture, legend, stale: true, visible: false, cursor: null };
  picture.append(svg("rect", { width: BOX.width, height: BOX.height, fill: "none" })); // holds the place until drawn
  picture.addEventListener("pointermove", (event) => moveCursor(state, xOfPointer(state, event)));
  picture.addEventListener("pointerleave", () => moveCursor(state, null));
  picture.addEventListener("blur", () => moveCursor(state, null));
  picture.addEventListener("keydown", (event) => chartKey(state, event));
  drawn.push(state);
  return card;
}

// Points of a line: [x, y, stage index], nulls and stage changes kept as gaps.
function pointsOf(line) {
  const run = RUNS[line.run];
  const xs = placesOf(run);
  const column = run.metrics[line.metric];
  const points = [];
  for (let i = 0; i < column.length; i++) {
    if (column[i] !== null && !(curveState.log && column[i] <= 0)) points.push([xs[i], column[i], run.stage[i]]);
  }
  return points;
}

// Exponential mean of each stage, corrected for its start; evaluations are few, and stay as they were measured.
function smoothed(points, metric) {
  if (metric.split("/").includes("eval")) return points;
  const out = [];
  let [total, weight, stage] = [0, 0, -1];
  for (const [x, y, s] of points) {
    if (s !== stage) [total, weight, stage] = [0, 0, s];
    total = curveState.smoothing * total + y;
    weight = curveState.smoothing * weight + 1;
    out.push([x, total / weight, s]);
  }
  return out;
}

function thinned(points) {
  if (points.length <= MAX_POINTS) return points;
  const size = Math.ceil(points.length / (MAX_POINTS / 2));
  const out = [];
  for (let first = 0; first < points.length; first += size) {
    const part = points.slice(first, first + size);
    const low = part.reduce((a, b) => (b[1] < a[1] ? b : a));
    const high = part.reduce((a, b) => (b[1] > a[1] ? b : a));
    out.push(...(low[0] <= high[0] ? [low, high] : [high, low]));
  }
  return out;
}

function drawChart(chart) {
  chart.stale = false;
  const lines = chart.lines.map((line) => ({ ...line, points: pointsOf(line) })).filter((line) => line.points.length);
  chart.data = lines;
  const all = lines.flatMap((line) => line.points);
  chart.picture.replaceChildren();
  if (!all.length) {
    chart.picture.append(svg("text", { x: BOX.width / 2, y: BOX.height / 2, "text-anchor": "middle" }, "nothing above zero"));
    chart.legend.replaceChildren();
    return;
  }
  scaleChart(chart, all);
  drawGrid(chart);
  for (const line of lines) drawLine(chart, line);
  showLegend(chart, null);
}

function extent(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

function scaleChart(chart, all) {
  const log = curveState.log;
  const [lowX, highX] = extent(all.map((point) => point[0]));
  const [low, high] = extent(all.map((point) => (log ? Math.log10(point[1]) : point[1])));
  const rows = ticks(low, high);
  const [y0, y1] = [rows[0], rows[rows.length - 1]];
  chart.rows = rows;
  chart.range = [lowX, highX];
  chart.px = (x) => BOX.left + ((x - lowX) / (highX - lowX || 1)) * (BOX.width - BOX.left - BOX.right);
  chart.py = (y) => BOX.height - BOX.bottom - (((log ? Math.log10(y) : y) - y0) / (y1 - y0 || 1)) * (BOX.height - BOX.top - BOX.bottom);
}

// The one stage whose steps a chart shows, and how far they are from those of the run; null where they are of several.
function stageOf(chart) {
  if (curveState.axis !== "step" || !chart.data) return null;
  const ofOthers = chart.data.some((line) => line.run !== 0);
  const stages = new Set(chart.data.flatMap((line) => line.points.map((point) => point[2])));
  if (ofOthers || stages.size !== 1) return null;
  const [stage] = stages;
  return { name: RUNS[0].stages[stage], before: beginOf(RUNS[0], stage) - 1 };
}

function drawGrid(chart) {
  const { picture, px, py, rows, range } = chart;
  const own = stageOf(chart);
  const before = own ? own.before : 0;
  for (const y of rows) {
    const value = curveState.log ? 10 ** y : y;
    picture.append(svg("line", { class: "gridline", x1: BOX.left, x2: BOX.width - BOX.right, y1: py(value), y2: py(value) }));
    picture.append(svg("text", { x: BOX.left - 6, y: py(value) + 3.5, "text-anchor": "end" }, fmt(value)));
  }
  const over = curveState.axis === "time";
  const [low, high] = [range[0] - before, range[1] - before];
  const marks = (over ? timeTicks : ticks)(low, high).filter((x) => x >= low && x <= high && (over || x === Math.round(x)));
  for (const x of marks) {
    const text = over ? seconds(x) : fmt(x);
    picture.append(svg("text", { x: px(x + before), y: BOX.height - 12, "text-anchor": "middle" }, text));
  }
  const axis = over ? "since the start" : own ? `step of ${own.name}` : curveState.axis === "stage" ? "step of the stage" : "step of the run";
  picture.append(svg("text", { class: "axis", x: BOX.width - BOX.right, y: BOX.height - 1, "text-anchor": "end" }, axis));
  drawBoundaries(chart);
  drawAlarms(chart);
}

// Where a stage of this run begins, inside the range of the chart.
function drawBoundaries({ picture, px, range }) {
  if (curveState.axis === "stage") return;
  const run = RUNS[0];
  const xs = placesOf(run);
  for (let i = 1; i < xs.length; i++) {
    if (run.stage[i] === run.stage[i - 1] || xs[i] <= range[0] || xs[i] > range[1]) continue;
    const line = svg("line", { class: "stageline", x1: px(xs[i]), x2: px(xs[i]), y1: BOX.top, y2: BOX.height - BOX.bottom });
    line.append(svg("title", {}, `stage ${run.stages[run.stage[i]]} begins`));
    picture.append(line);
  }
}

function drawAlarms({ picture, px, range }) {
  const run = RUNS[0];
  const xs = placesOf(run);
  for (const [step, name] of run.alarms) {
    const row = run.step.indexOf(step);
    const x = xs[row];
    if (row < 0 || x < range[0] || x > range[1]) continue;
    const mark = svg("g", { class: "alarm", "data-alarm": name });
    mark.append(svg("line", { class: "alarmline", x1: px(x), x2: px(x), y1: BOX.top, y2: BOX.height - BOX.bottom }));
    mark.append(svg("path", { class: "alarmmark", d: `M${px(x) - 4},${BOX.top - 8}h8l-4,8z`, style: "fill:var(--bad)" }));
    mark.append(svg("title", {}, `alarm ${name} at ${run.stages[run.stage[row]]} step ${step - beginOf(run, run.stage[row]) + 1}`));
    picture.append(mark);
  }
}

function drawLine(chart, line) {
  const soft = smoothed(line.points, line.metric);
  line.soft = soft;
  const many = line.points.length > 12 && curveState.smoothing > 0 && soft !== line.points;
  const path = (points, raw) => {
    let [d, stage] = ["", -1];
    for (const [x, y, s] of thinned(points)) {
      d += `${s === stage ? "L" : "M"}${chart.px(x).toFixed(1)},${chart.py(y).toFixed(1)}`;
      stage = s;
    }
    chart.picture.append(svg("path", { class: raw ? "raw" : "line", d, style: `stroke:${line.color}` }));
  };
  path(line.points, many);
  if (many) path(soft, false);
  bridgeStages(chart, line);
  const alone = line.points.filter(([, , s], i) => line.points[i - 1]?.[2] !== s && line.points[i + 1]?.[2] !== s);
  for (const [x, y] of alone) chart.picture.append(svg("circle", { cx: chart.px(x), cy: chart.py(y), r: 3.2, style: `fill:${line.color}` }));
}

// A line that has but one point a stage (evaluations before and after) is joined by dots.
function bridgeStages(chart, line) {
  const stages = new Set(line.points.map((point) => point[2]));
  if (line.points.length < 2 || stages.size < line.points.length) return;
  const d = line.points.map(([x, y], i) => `${i ? "L" : "M"}${chart.px(x).toFixed(1)},${chart.py(y).toFixed(1)}`).join("");
  chart.picture.append(svg("path", { class: "bridge", d, style: `stroke:${line.color};stroke-dasharray:2 4;stroke-width:1.3` }));
}

// What the legend says: the last value of each line, or its value nearest to x.
function showLegend(chart, x) {
  const nearest = (points) => points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best));
  const entries = chart.data.map((line) => {
    const point = x === null ? line.points[line.points.length - 1] : nearest(line.points);
    return el("span", {}, el("i", { style: `background:${line.color}` }), `${line.label} `, el("b", {}, fmt(point[1])));
  });
  const at = x === null ? null : el("span", {}, placeText(chart, x));
  chart.legend.replaceChildren(...[at, ...entries].filter(Boolean));
}

// The place of the cursor in words: a step is that of its stage.
function placeText(chart, x) {
  if (curveState.axis === "time") return `at ${seconds(x)}`;
  if (curveState.axis === "stage") return `step ${fmt(x)}`;
  const point = chart.data.flatMap((line) => line.points.map((each) => [each, line.run])).find(([each]) => each[0] === x);
  if (!point) return `step ${fmt(x)}`;
  const run = RUNS[point[1]];
  const stage = point[0][2];
  return `${run.stages[stage]} step ${fmt(x - beginOf(run, stage) + 1)}`;
}

function xOfPointer(chart, event) {
  const box = chart.picture.getBoundingClientRect();
  const place = ((event.clientX - box.left) / box.width) * BOX.width;
  const share = (place - BOX.left) / (BOX.width - BOX.left - BOX.right);
  return chart.range ? chart.range[0] + Math.min(1, Math.max(0, share)) * (chart.range[1] - chart.range[0]) : null;
}

function moveCursor(chart, x) {
  if (!chart.data?.length) return;
  chart.picture.querySelector(".cursor")?.remove();
  let at = null;
  if (x !== null) {
    const xs = chart.data[0].points.map((point) => point[0]);
    at = xs.reduce((best, one) => (Math.abs(one - x) < Math.abs(best - x) ? one : best));
    chart.picture.append(svg("line", { class: "cursor", x1: chart.px(at), x2: chart.px(at), y1: BOX.top, y2: BOX.height - BOX.bottom }));
  }
  chart.cursor = at;
  showLegend(chart, at);
}

function chartKey(chart, event) {
  const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!direction || !chart.data?.length) return;
  event.preventDefault();
  event.stopPropagation();
  const xs = chart.data[0].points.map((point) => point[0]);
  const place = chart.cursor === null ? (direction > 0 ? -1 : xs.length) : xs.indexOf(chart.cursor);
  moveCursor(chart, xs[Math.min(xs.length - 1, Math.max(0, place + direction * (event.shiftKey ? 10 : 1)))]);
}
