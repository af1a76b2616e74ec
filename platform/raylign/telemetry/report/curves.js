// Curves of every metric: which charts there are, smoothing, the axis, the search by name.

const FIRST = ["reward", "eval", "loss", "length", "entropy", "approx_kl_k3", "ref_kl", "grad_norm", "sampler_gap", "tokens", "time"];
const curveState = { smoothing: 0.7, axis: "step", filter: "", log: false };
let RUNS = []; // columns of this run and of those beside it
let drawn = []; // charts on the page, drawn when they come into sight

async function showCurves() {
  const panel = byId("panel-curves");
  RUNS = await data("curves");
  panel.replaceChildren(curveBar());
  if (RUNS.length > 1) panel.append(runsLegend());
  panel.append(el("div", { id: "curve-groups" }));
  if (!RUNS[0].step.length) {
    byId("curve-groups").append(el("p", { class: "empty" }, "No metrics are recorded yet."));
    return;
  }
  layCharts();
}

function curveBar() {
  const change = (key, read) => (event) => {
    curveState[key] = read(event.target);
    if (key === "filter") layCharts();
    else redrawCharts();
  };
  const value = el("span", { class: "num", id: "smoothing-value" }, curveState.smoothing.toFixed(2));
  const smooth = change("smoothing", (target) => Number(target.value));
  return el("div", { class: "bar" },
    el("label", {}, "metrics", el("input", { type: "search", id: "curve-filter", placeholder: "part of a name", oninput: later(change("filter", (t) => t.value.toLowerCase()), 120) })),
    el("label", {}, "smoothing", el("input", { type: "range", id: "smoothing", min: 0, max: 0.99, step: 0.01, value: curveState.smoothing,
      oninput: (event) => { value.textContent = Number(event.target.value).toFixed(2); smooth(event); } }), value),
    el("label", {}, "over", el("select", { id: "axis", onchange: change("axis", (t) => t.value) },
      el("option", { value: "step" }, "steps of the run"), el("option", { value: "stage" }, "steps of the stage"), el("option", { value: "time" }, "time"))),
    el("label", {}, el("input", { type: "checkbox", id: "log", onchange: change("log", (t) => t.checked) }), "logarithmic"));
}

function runsLegend() {
  return el("div", { class: "bar runs-legend", id: "runs-legend" },
    RUNS.map((run, i) => el("span", {}, el("i", { style: `background:${series(i)}` }), run.name)));
}

// Charts are {title, unit, key, lines: [{label, run, metric, color}]}: one per family of metrics (the name up to its last
// slash) and unit; with several runs one per metric, coloured by run. Constant metrics are listed, not drawn.
function planCharts() {
  const names = [...new Set(RUNS.flatMap((run) => Object.keys(run.metrics)))].sort();
  const wanted = names.filter((name) => `${name} ${wordsOf(name)[0]}`.toLowerCase().includes(curveState.filter));
  const steady = wanted.filter((name) => RUNS.every((run) => isSteady(run.metrics[name])));
  const moving = wanted.filter((name) => !steady.includes(name));
  const charts = RUNS.length > 1 ? moving.map(chartOfMetric) : chartsOfFamilies(moving);
  const place = (key) => {
    const index = FIRST.indexOf(familyOf(key)) >= 0 ? FIRST.indexOf(familyOf(key)) : FIRST.indexOf(key);
    return index >= 0 ? index : FIRST.length;
  };
  charts.sort((a, b) => place(a.lines[0].metric) - place(b.lines[0].metric) || a.key.localeCompare(b.key));
  const main = charts.filter((chart) => chart.main).slice(0, 12);
  return { main, others: charts.filter((chart) => !main.includes(chart)), steady };
}

function familyOf(name) {
  return name.includes("/") ? name.slice(0, name.lastIndexOf("/")) : name;
}

// The unit of a metric, "" where nobody knows; and what a person calls it: alone, and among its family.
function unitOf(name) {
  return RUNS.map((run) => run.units[name]).find((unit) => unit !== undefined) ?? "";
}

function wordsOf(name) {
  return RUNS.map((run) => run.words[name]).find(Boolean) ?? [name, name];
}

function isSteady(column) {
  if (!column) return true;
  const known = column.filter((value) => value !== null);
  return known.every((value) => value === known[0]);
}

function chartOfMetric(name) {
  const lines = RUNS.map((run, i) => ({ label: run.name, run: i, metric: name, color: series(i) }));
  const main = FIRST.includes(familyOf(name)) || FIRST.includes(name);
  return { title: wordsOf(name)[0], unit: unitOf(name), key: name, main, lines: lines.filter((line) => RUNS[line.run].metrics[name]) };
}

// A metric whose unit nobody knows has a chart to itself.
function chartsOfFamilies(names) {
  const groups = new Map();
  for (const name of names) {
    const place = unitOf(name) ? `${familyOf(name)} ${unitOf(name)}` : ` ${name}`;
    if (!groups.has(place)) groups.set(place, []);
    groups.get(place).push(name);
  }
  const begun = new Set();
  const charts = [];
  for (const members of groups.values()) {
    const [family, unit] = [familyOf(members[0]), unitOf(members[0])];
    const perChart = family === "time" ? SERIES : 6;
    for (let first = 0; first < members.length; first += perChart) {
      const lines = members.slice(first, first + perChart).map((metric, i) => ({ label: wordsOf(metric)[1], run: 0, metric, color: series(i) }));
      const alone = lines.length === 1;
      charts.push({ title: alone ? wordsOf(lines[0].metric)[0] : family.replaceAll("_", " "), unit, key: alone ? lines[0].metric : begun.has(family) ? `${family} ${unit}` : family,
        main: FIRST.includes(family) && first === 0, lines });
      if (!alone) begun.add(family);
    }
  }
  return charts;
}

function layCharts() {
  const { main, others, steady } = planCharts();
  const groups = byId("curve-groups");
  drawn = [];
  const cards = (charts) => charts.map((chart) => chartCard(chart));
  groups.replaceChildren(
    el("div", { class: "charts main-charts" }, cards(main)),
    others.length ? el("h2", {}, main.length ? "More" : "Metrics") : "",
    el("div", { class: "charts" }, cards(others)),
    steady.length ? el("h2", {}, "Constant") : "",
    steady.length ? el("div", { class: "card" }, tableOf(null, steady.map((name) => [name, ...RUNS.map((run) => lastOf(run.metrics[name]))]))) : "");
  if (!main.length && !others.length && !steady.length) groups.append(el("p", { class: "empty" }, "No metric has this in its name."));
  const sight = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const chart = drawn.find((one) => one.card === entry.target);
      if (!chart) continue;
      chart.visible = entry.isIntersecting;
      if (chart.visible && chart.stale) drawChart(chart);
    }
  }, { rootMargin: "300px" });
  drawn.forEach((chart) => sight.observe(chart.card));
}

function redrawCharts() {
  for (const chart of drawn) {
    chart.stale = true;
    if (chart.visible) drawChart(chart);
  }
}

// Where the rows of a run stand on the axis. Steps of the stage start at 1 in every stage: runs with a longer warm-up
// can then be compared.
function placesOf(run) {
  if (curveState.axis !== "stage") return curveState.axis === "time" ? run.time : run.step;
  return run.stage.map((stage, i) => run.step[i] - beginOf(run, stage) + 1);
}

// The step of the run with which a stage begins.
function beginOf(run, stage) {
  return run.step[run.stage.indexOf(stage)];
}

function lastOf(column) {
  if (!column) return null;
  for (let i = column.length - 1; i >= 0; i--) if (column[i] !== null) return column[i];
  return null;
}
