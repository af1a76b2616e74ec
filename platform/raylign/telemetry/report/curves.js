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
      el("option", { value: "step" }, "steps"), el("option", { value: "stage" }, "steps of the stage"), el("option", { value: "time" }, "time"))),
    el("label", {}, el("input", { type: "checkbox", id: "log", onchange: change("log", (t) => t.checked) }), "logarithmic"));
}

function runsLegend() {
  return el("div", { class: "bar runs-legend", id: "runs-legend" },
    RUNS.map((run, i) => el("span", {}, el("i", { style: `background:${series(i)}` }), run.name)));
}

// Charts are {title, lines: [{label, run, metric, color}]}: one per family of metrics (the name up to its last slash);
// with several runs one per metric, coloured by run. Constant metrics are listed, not drawn.
function planCharts() {
  const names = [...new Set(RUNS.flatMap((run) => Object.keys(run.metrics)))].sort();
  const wanted = names.filter((name) => name.toLowerCase().includes(curveState.filter));
  const steady = wanted.filter((name) => RUNS.every((run) => isSteady(run.metrics[name])));
  const moving = wanted.filter((name) => !steady.includes(name));
  const charts = RUNS.length > 1 ? moving.map(chartOfMetric) : chartsOfFamilies(moving);
  const place = (title) => {
    const index = FIRST.indexOf(familyOf(title)) >= 0 ? FIRST.indexOf(familyOf(title)) : FIRST.indexOf(title);
    return index >= 0 ? index : FIRST.length;
  };
  charts.sort((a, b) => place(a.title) - place(b.title) || a.title.localeCompare(b.title));
  const main = charts.filter((chart) => chart.main).slice(0, 12);
  return { main, others: charts.filter((chart) => !main.includes(chart)), steady };
}

function familyOf(name) {
  return name.includes("/") ? name.slice(0, name.lastIndexOf("/")) : name;
}

function isSteady(column) {
  if (!column) return true;
  const known = column.filter((value) => value !== null);
  return known.every((value) => value === known[0]);
}

function chartOfMetric(name) {
  const lines = RUNS.map((run, i) => ({ label: run.name, run: i, metric: name, color: series(i) }));
  const main = FIRST.includes(familyOf(name)) || FIRST.includes(name);
  return { title: name, main, lines: lines.filter((line) => RUNS[line.run].metrics[name]) };
}

function chartsOfFamilies(names) {
  const families = new Map();
  for (const name of names) {
    const family = familyOf(name);
    if (!families.has(family)) families.set(family, []);
    families.get(family).push(name);
  }
  const charts = [];
  for (const [family, members] of families) {
    const perChart = family === "time" ? SERIES : 6;
    for (let first = 0; first < members.length; first += perChart) {
      const lines = members.slice(first, first + perChart).map((metric, i) => (
        { label: metric.slice(metric.lastIndexOf("/") + 1), run: 0, metric, color: series(i) }));
      charts.push({ title: lines.length === 1 ? lines[0].metric : family, main: FIRST.includes(family) && first === 0, lines });
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
  const first = new Map();
  return run.stage.map((stage, i) => {
    if (!first.has(stage)) first.set(stage, run.step[i]);
    return run.step[i] - first.get(stage) + 1;
  });
}

function lastOf(column) {
  if (!column) return null;
  for (let i = column.length - 1; i >= 0; i--) if (column[i] !== null) return column[i];
  return null;
}
