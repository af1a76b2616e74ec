// The audit: what each grader of each stage came to, and the samples that tell most: highly rewarded and graded low.

const AUDIT_HEAD = ["stage", "grader", "grade, first and last", "exploits, first and last", "most", "first in step", "dominant after", "blind spot", "missing", "high from", "low to", "alarm"];

async function showAudit() {
  const { graders, samples, asked, share } = await data("audit");
  const said = `Graders were asked about ${asked.toLocaleString("en")} samples` + (share === null ? "." : `, ${percent(share)} of those of the stage.`);
  byId("panel-audit").replaceChildren(
    el("p", {}, said, " Nothing of what they say is learned from. An exploit is a sample whose training reward is among the best of the stage's start, and its grade among the worst."),
    el("div", { class: "card", id: "graders" }, graders.length ? tableOf(AUDIT_HEAD, graders.map(graderRow), false) : el("p", { class: "empty" }, "No grade is recorded (yet).")),
    el("h2", {}, samples.length ? "The most telling samples" : "No recorded sample is an exploit"),
    el("div", { class: "telling" }, samples.map(tellingCard)));
}

function graderRow(each) {
  const ends = (values, write) => (values === null ? "–" : `${write(values[0])} → ${write(values[1])}`);
  const share = (value) => (value === null ? "–" : percent(value));
  const known = (value) => (value === null ? "–" : fmt(value));
  const word = (flag, text) => (flag ? el("b", { class: "bad" }, text) : "no");
  return [each.stage + (each.held_out ? ", held-out" : ""), each.grader + (each.domain ? ` in ${each.domain}` : ""), ends(each.grade, fmt), ends(each.exploit, percent), share(each.most),
    known(each.first_appearance), each.domination === null ? "–" : `${fmt(each.domination)} steps`, word(each.blind_spot, "yes"), share(each.missing),
    each.start ? fmt(each.start.reward_from) : "–", each.start ? fmt(each.start.grade_to) : "–", word(each.alarm, "raised")];
}

function tellingCard(sample) {
  const numbers = (values, name, kind) => Object.entries(values).map(([key, value]) => chip(`${name} ${key}`, value === null ? "missing" : fmt(value), kind));
  return el("div", { class: "card" },
    el("div", { class: "who" }, `${sample.stage} step ${stageStep(sample.stage, sample.step)}`, el("button", { type: "button", "data-row": sample.row, onclick: () => openRollout(sample.row) }, "open")),
    el("div", { class: "chips" }, chip("score", fmt(sample.score), "good"), numbers(sample.grades, "grade", "bad"), numbers(sample.rewards, "reward", null)),
    el("div", { class: "said mono dim" }, cut(sample.prompt, 300)), el("div", { class: "said mono" }, cut(sample.text, 600)));
}

function cut(text, most) {
  return text.length > most ? `${text.slice(0, most)} …` : text || "(no text)";
}
