// The figures at the top: what the run did, in one look.

function showHeadline() {
  byId("name").textContent = RUN.name;
  byId("facts").append(...RUN.facts.map(([key, value]) => el("span", {}, `${key} `, el("b", {}, value))));
  byId("tiles").append(...[scoreTile(RUN.score, "hero"), ...RUN.also.map((score) => scoreTile(score, "")), stepsTile(), timeTile(), tokensTile(), alarmsTile()].filter(Boolean));
  if (RUN.beside.length) byId("tiles").append(...RUN.beside.map(besideTile));
  showAlarms();
}

function tile(label, value, note = null, kind = "", noteKind = "") {
  return el("div", { class: `tile ${kind}` }, el("div", { class: "label" }, label), el("div", { class: "value" }, value),
    note ? el("div", { class: `note ${noteKind}` }, note) : null);
}

// Shares are shown in percent; what has another unit or range as it is.
function scoreText(score, value) {
  return score.share ? percent(value) : fmt(value);
}

function scoreTile(score, kind) {
  if (!score) return RUN.steps ? null : tile("nothing recorded yet", "–", null, kind);
  const { before, after, share, lower, what } = score;
  if (before === null) return tile(what, scoreText(score, after), null, kind);
  const change = after - before;
  const better = lower ? -change : change;
  const text = share ? `${change < 0 ? "−" : "+"}${Math.abs(change * 100).toFixed(1)} points` : `${change < 0 ? "−" : "+"}${fmt(Math.abs(change))}`;
  const value = [scoreText(score, before), el("span", { class: "arrow" }, "→"), scoreText(score, after)];
  return tile(`${what}, before → after`, value, text, kind, better > 0 ? "good" : better < 0 ? "bad" : "");
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
  const value = score ? scoreText(score, score.after) : "–";
  return tile(el("span", {}, mark, other.name), value, `${score ? score.what : "no score"}, ${count(other.steps)} steps, ${other.time}`);
}

function showAlarms() {
  if (!RUN.alarms.length) return;
  const box = byId("alarms");
  box.hidden = false;
  box.append(...RUN.alarms.map((alarm) => el("p", {},
    el("b", {}, alarm.alarm), alarm.stage ? ` at ${alarm.stage} step ${stageStep(alarm.stage, alarm.step)}` : ` at step ${alarm.step}`, ": ",
    alarm.text || "", alarm.hint ? " · " : "", el("span", { class: "dim" }, alarm.hint || ""))));
}
