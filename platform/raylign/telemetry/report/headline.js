// The figures at the top: what the run did, in one look.

function showHeadline() {
  byId("name").textContent = RUN.name;
  byId("facts").append(...RUN.facts.map(([key, value]) => el("span", {}, `${key} `, el("b", {}, value))));
  byId("tiles").append(...[scoreTile(), stepsTile(), timeTile(), tokensTile(), alarmsTile()].filter(Boolean));
  if (RUN.beside.length) byId("tiles").append(...RUN.beside.map(besideTile));
  showAlarms();
}

function tile(label, value, note = null, kind = "", noteKind = "") {
  return el("div", { class: `tile ${kind}` }, el("div", { class: "label" }, label), el("div", { class: "value" }, value),
    note ? el("div", { class: `note ${noteKind}` }, note) : null);
}

// Shares are shown in percent; scores of another range as they are.
function scoreText(value, all) {
  const share = all.every((entry) => entry[2] >= 0 && entry[2] <= 1);
  return share ? percent(value) : fmt(value);
}

function scoreTile() {
  const score = RUN.score;
  if (!score) return RUN.steps ? null : tile("nothing recorded yet", "–", null, "hero");
  const { before, after, all, what } = score;
  if (before === null) return tile(what, scoreText(after, all), null, "hero");
  const share = all.every((entry) => entry[2] >= 0 && entry[2] <= 1);
  const change = after - before;
  const text = share ? `${change < 0 ? "−" : "+"}${Math.abs(change * 100).toFixed(1)} points` : `${change < 0 ? "−" : "+"}${fmt(Math.abs(change))}`;
  const value = [scoreText(before, all), el("span", { class: "arrow" }, "→"), scoreText(after, all)];
  return tile(`${what}, before → after`, value, text, "hero", change > 0 ? "good" : change < 0 ? "bad" : "");
}

function stepsTile() {
  const names = RUN.stages.map((stage) => `${stage.name} ${stage.steps}`);
  return tile("steps", count(RUN.steps), names.join(" · "));
}

function timeTile() {
  const state = RUN.finished ? "finished" : "unfinished";
  const again = RUN.restarts ? `, continued ${RUN.restarts} ×` : "";
  return RUN.time ? tile("time", RUN.time, state + again) : null;
}

function tokensTile() {
  if (!RUN.tokens) return null;
  return tile("tokens sampled", count(RUN.tokens), RUN.speed ? `${count(RUN.speed)} a second, on average` : null);
}

function alarmsTile() {
  const names = [...new Set(RUN.alarms.map((alarm) => alarm.alarm))];
  return tile("alarms", RUN.alarms.length ? String(RUN.alarms.length) : "none", names.join(", ") || null, RUN.alarms.length ? "alert" : "");
}

function besideTile(other, number) {
  const score = other.score;
  const mark = el("i", { style: `display:inline-block;width:14px;height:4px;border-radius:2px;margin:0 6px 3px 0;background:${series(number + 1)}` });
  const value = score ? scoreText(score.after, score.all) : "–";
  return tile(el("span", {}, mark, other.name), value, `${score ? score.what : "no score"}, ${count(other.steps)} steps, ${other.time}`);
}

function showAlarms() {
  if (!RUN.alarms.length) return;
  const box = byId("alarms");
  box.hidden = false;
  box.append(...RUN.alarms.map((alarm) => el("p", {},
    el("b", {}, alarm.alarm), ` at step ${alarm.step}`, alarm.stage ? ` (${alarm.stage})` : "", ": ",
    alarm.text || "", alarm.hint ? " · " : "", el("span", { class: "dim" }, alarm.hint || ""))));
}
