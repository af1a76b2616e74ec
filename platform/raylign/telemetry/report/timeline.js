// When which role worked: lanes that can be zoomed, and busy and idle time per stage and role.

const PHASES = ["rollout", "reward", "score", "learn", "publish", "evaluate", "save", "start"]; // colours in this order
const LANE = { width: 1160, left: 98, right: 24, height: 26, gap: 7, top: 8, bottom: 26 };
const BINS = 580; // of a lane that has more spans than that in view
let TIME = null;
const view = { start: 0, end: 1 };

async function showTimeline() {
  TIME = await data("timeline");
  const panel = byId("panel-timeline");
  panel.replaceChildren();
  if (!(TIME.seconds > 0)) {
    panel.append(el("p", { class: "empty" }, "Nothing with a duration is recorded yet."));
    return;
  }
  [view.start, view.end] = [0, TIME.seconds];
  const zoom = (text, title, action) => el("button", { type: "button", title, onclick: action }, text);
  panel.append(
    el("div", { class: "bar" },
      zoom("+", "closer (+)", () => zoomBy(0.5)), zoom("−", "farther (−)", () => zoomBy(2)),
      zoom("◀", "earlier (←)", () => panBy(-0.3)), zoom("▶", "later (→)", () => panBy(0.3)), zoom("whole run", "whole run (0)", () => zoomTo(0, TIME.seconds)),
      [...new Set(TIME.stages.map(([name]) => name))].map((name) => zoom(name, `stage ${name}`, () => zoomToStage(name)))),
    el("div", { class: "card lanes-card" }, el("div", { id: "lanes", tabindex: "0", "aria-label": "timeline of stages and roles; plus and minus zoom, arrows move", onkeydown: timelineKey }),
      swatches(), el("div", { class: "readout", id: "readout" }, " ")),
    el("div", { class: "tables" }, busyCard(), phasesCard()), markersCard());
  drawLanes();
}

function swatches() {
  const used = PHASES.filter((phase) => TIME.phase.name.includes(phase));
  const measured = Object.keys(TIME.measured).length ? [el("span", {}, el("i", { style: "background:var(--s7)" }), "measured share")] : [];
  return el("div", { class: "swatches" }, used.map((phase) => el("span", {}, el("i", { style: `background:${phaseColor(phase)}` }), phase)), measured,
    el("span", {}, "blank: idle, or not recorded"));
}

function phaseColor(phase) {
  return phase === "measured" ? "var(--s7)" : series(Math.max(0, PHASES.indexOf(phase)));
}

// From the first process that worked on a stage to the last.
function zoomToStage(name) {
  const pieces = TIME.stages.filter(([stage]) => stage === name);
  zoomTo(Math.min(...pieces.map(([, start]) => start)), Math.max(...pieces.map(([, , end]) => end)));
}

function zoomTo(start, end) {
  const least = Math.min(0.05, TIME.seconds);
  const width = Math.min(TIME.seconds, Math.max(least, end - start));
  view.start = Math.min(Math.max(0, start), TIME.seconds - width);
  view.end = view.start + width;
  drawLanes();
}

function zoomBy(factor) {
  const middle = (view.start + view.end) / 2;
  const half = ((view.end - view.start) * factor) / 2;
  zoomTo(middle - half, middle + half);
}

function panBy(share) {
  const shift = (view.end - view.start) * share;
  zoomTo(view.start + shift, view.end + shift);
}

function timelineKey(event) {
  const action = {
    "+": () => zoomBy(0.5), "=": () => zoomBy(0.5), "-": () => zoomBy(2), "0": () => zoomTo(0, TIME.seconds),
    ArrowLeft: () => panBy(-0.3), ArrowRight: () => panBy(0.3),
  }[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

// Spans of a role in view: [start, end, phase, share].
function spansOf(role) {
  if (TIME.measured[role]) return TIME.measured[role].filter(([s, e]) => e > view.start && s < view.end).map(([s, e, share]) => [s, e, "measured", share]);
  const { start, end, name, stage, step } = TIME.phase;
  const phases = [];
  for (let i = 0; i < start.length; i++) {
    if (end[i] > view.start && start[i] < view.end && (TIME.busy[stage[i]]?.[name[i]] ?? []).includes(role)) phases.push([start[i], end[i], name[i], 1, step[i]]);
  }
  return phases;
}

function rolesSeen() {
  return TIME.roles.filter((role) => TIME.measured[role] || TIME.phase.name.some((name, i) => (TIME.busy[TIME.phase.stage[i]]?.[name] ?? []).includes(role)));
}

function roleName(role) {
  return role === "frozen" ? "frozen model" : role;
}

function drawLanes() {
  const roles = rolesSeen();
  const height = LANE.top + (roles.length + 1) * (LANE.height + LANE.gap) + LANE.bottom;
  const picture = svg("svg", { class: "lanes chart", viewBox: `0 0 ${LANE.width} ${height}`, role: "img", "aria-label": "timeline" });
  const px = (t) => LANE.left + ((t - view.start) / (view.end - view.start)) * (LANE.width - LANE.left - LANE.right);
  const bar = (lane, start, end, color, opacity, title) => {
    const [x0, x1] = [px(Math.max(start, view.start)), px(Math.min(end, view.end))];
    const rect = svg("rect", { class: "span", x: x0.toFixed(2), y: laneTop(lane), width: Math.max(0.6, x1 - x0).toFixed(2), height: LANE.height, style: `fill:${color};opacity:${opacity}` });
    if (title) rect.append(svg("title", {}, title));
    picture.append(rect);
  };
  laneLabel(picture, 0, "stage");
  TIME.stages.forEach(([name, start, end], i) => {
    if (end <= view.start || start >= view.end) return;
    bar(0, start, end, i % 2 ? "var(--line)" : "color-mix(in srgb, var(--dim) 32%, var(--card))", 1, `${name}: ${seconds(end - start)}`);
    const [x0, x1] = [px(Math.max(start, view.start)), px(Math.min(end, view.end))];
    if (x1 - x0 > 7 * name.length + 8) picture.append(svg("text", { x: x0 + 6, y: laneTop(0) + 17, style: "font-size:12px;fill:var(--ink)" }, name));
  });
  roles.forEach((role, i) => {
    laneLabel(picture, i + 1, roleName(role));
    picture.append(svg("rect", { x: LANE.left, y: laneTop(i + 1), width: LANE.width - LANE.left - LANE.right, height: LANE.height, style: "fill:var(--sunk)" }));
    const spans = spansOf(role);
    if (spans.length > BINS) drawBins(spans, (start, end, phase, share) => bar(i + 1, start, end, phaseColor(phase), share, null));
    else for (const [start, end, phase, share, step] of spans) {
      bar(i + 1, start, end, phaseColor(phase), share, `${phase}${step ? `, step ${step}` : ""}: ${seconds(end - start)}${share < 1 ? `, busy ${percent(share)}` : ""}`);
    }
  });
  drawTimeAxis(picture, px, height);
  drawMarkers(picture, px, roles.length + 1);
  picture.addEventListener("pointermove", (event) => readout(picture, event));
  byId("lanes").replaceChildren(picture);
}

function laneTop(lane) {
  return LANE.top + lane * (LANE.height + LANE.gap);
}

function laneLabel(picture, lane, text) {
  picture.append(svg("text", { x: LANE.left - 10, y: laneTop(lane) + 17, "text-anchor": "end", style: "font-size:12px" }, text));
}

// Many spans: per bin the covered share, in the colour of the phase that covers most of it.
function drawBins(spans, draw) {
  const width = (view.end - view.start) / BINS;
  const bins = Array.from({ length: BINS }, () => new Map());
  for (const [start, end, phase, share] of spans) {
    const first = Math.max(0, Math.floor((start - view.start) / width));
    const last = Math.min(BINS - 1, Math.floor((end - view.start) / width));
    for (let i = first; i <= last; i++) {
      const low = Math.max(start, view.start + i * width);
      const high = Math.min(end, view.start + (i + 1) * width);
      if (high > low) bins[i].set(phase, (bins[i].get(phase) ?? 0) + (high - low) * share);
    }
  }
  bins.forEach((bin, i) => {
    if (!bin.size) return;
    const [phase] = [...bin].reduce((a, b) => (b[1] > a[1] ? b : a));
    const covered = [...bin.values()].reduce((a, b) => a + b, 0) / width;
    draw(view.start + i * width, view.start + (i + 1) * width, phase, Math.min(1, covered).toFixed(2));
  });
}

function drawTimeAxis(picture, px, height) {
  for (const t of timeTicks(view.start, view.end, 10)) {
    if (t < view.start || t > view.end) continue;
    picture.append(svg("line", { class: "gridline", x1: px(t), x2: px(t), y1: LANE.top, y2: height - LANE.bottom + 3 }));
    picture.append(svg("text", { x: px(t), y: height - 8, "text-anchor": "middle", style: "font-size:11px" }, seconds(t)));
  }
}

function drawMarkers(picture, px, lanes) {
  for (const { time, kind, text } of TIME.markers) {
    if (time < view.start || time > view.end) continue;
    const color = kind === "resumed" ? "var(--accent)" : "var(--bad)";
    const line = svg("line", { x1: px(time), x2: px(time), y1: LANE.top - 6, y2: laneTop(lanes) - LANE.gap, style: `stroke:${color};stroke-width:1.5;stroke-dasharray:3 3` });
    line.append(svg("title", {}, `${kind} at ${seconds(time)}: ${text}`));
    picture.append(line);
  }
}

// What happens at the pointer, in words.
function readout(picture, event) {
  const box = picture.getBoundingClientRect();
  const place = ((event.clientX - box.left) / box.width) * LANE.width;
  const t = view.start + ((place - LANE.left) / (LANE.width - LANE.left - LANE.right)) * (view.end - view.start);
  if (t < view.start || t > view.end) return;
  const stage = TIME.stages.find(([, start, end]) => start <= t && t <= end);
  const { start, end, name, step } = TIME.phase;
  const i = start.findIndex((s, k) => s <= t && t <= end[k]);
  const phase = i < 0 ? "" : `, ${name[i]}${step[i] ? ` of step ${step[i]}` : ""} (${seconds(end[i] - start[i])})`;
  byId("readout").textContent = `${seconds(t)}: ${stage ? stage[0] : "nothing ran"}${phase}`;
}

function busyCard() {
  const rows = TIME.table.flatMap(({ stage, seconds: total, roles }) => (Object.keys(roles).length
    ? Object.entries(roles).map(([role, busy]) => [stage, roleName(role), seconds(busy), seconds(Math.max(0, total - busy)), meter(total ? busy / total : 0)])
    : [[stage, "–", "not recorded", "", ""]]));
  return el("div", { class: "card" }, el("h2", {}, "Busy and idle"), tableOf(["stage", "role", "busy", "idle", "busy share"], rows));
}

function meter(share) {
  return el("span", {}, el("span", { class: "meter" }, el("i", { style: `width:${(share * 100).toFixed(1)}%` })), ` ${percent(share)}`);
}

function phasesCard() {
  const named = (phase, color) => el("span", {}, el("i", { style: `display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px;background:${color}` }), phase);
  const row = (stage, name, spent, total) => [stage, name, seconds(spent), percent(total ? spent / total : 0)];
  const rows = TIME.table.flatMap(({ stage, seconds: total, phases }) => {
    const rest = total - Object.values(phases).reduce((sum, spent) => sum + spent, 0);
    return [...Object.entries(phases).map(([phase, spent]) => row(stage, named(phase, phaseColor(phase)), spent, total)),
      ...(rest > 0.005 * total ? [row(stage, named("start, export, not recorded", "var(--line)"), rest, total)] : [])];
  });
  return el("div", { class: "card" }, el("h2", {}, "Phases"), tableOf(["stage", "phase", "time", "of the stage"], rows));
}

function markersCard() {
  if (!TIME.markers.length) return "";
  const rows = TIME.markers.slice(0, 200).map(({ time, kind, text }) => [seconds(time), kind, text]);
  return el("div", { class: "card", style: "margin-top:14px" }, el("h2", {}, "Events"), tableOf(["at", "what", ""], rows));
}
