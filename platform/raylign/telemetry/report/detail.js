// One rollout unfolded: prompt, turns with their tokens, tool calls and flags, rewards with every detail.

let showing = 0; // number of the newest request: an older one that arrives late is not shown

async function showDetail(row) {
  const mine = ++showing;
  const box = byId("detail");
  if (row === null) {
    box.replaceChildren(el("p", { class: "empty" }, "No rollout passes the filters."));
    byId("scale").replaceChildren();
    return;
  }
  const bodies = await data(`bodies-${Math.floor(row / INDEX.bodies)}`);
  if (mine !== showing) return;
  const body = bodies[row % INDEX.bodies];
  const prompt = INDEX.prompts[INDEX.columns.prompt[row]];
  box.replaceChildren(...detailHead(row, prompt, body), ...promptPart(prompt), ...turnsPart(body), ...rewardsPart(body), metricsPart(body));
  box.scrollTop = 0;
  box.dataset.row = row;
  showScale(body);
}

function chip(label, value, kind = null) {
  return el("span", { class: "chip" }, `${label} `, el("b", { class: kind }, value));
}

function detailHead(row, prompt, body) {
  const { step, stage, stop, sample, score, advantage, tokens, exploit } = INDEX.columns;
  const sign = advantage[row] > 0 ? "good" : advantage[row] < 0 ? "bad" : null;
  return [
    el("h2", {}, `${INDEX.stages[stage[row]] || "rollout"}, step ${stageStep(INDEX.stages[stage[row]], step[row])}, sample ${sample[row]}`),
    el("div", { class: "chips" }, chip("score", score[row] === null ? "missing" : fmt(score[row]), score[row] === null ? "bad" : null),
      chip(Array.isArray(body.advantage) ? "mean advantage" : "advantage", advantage[row] === null ? "none" : fmt(advantage[row]), sign),
      chip("sampled", `${tokens[row]} tokens`), chip("prompt", `${prompt.tokens} tokens`), chip("stop", INDEX.stops[stop[row]]),
      chip("id", prompt.key), prompt.domain ? chip("domain", prompt.domain) : null, chip("seed", body.seed),
      exploit[row] === null ? null : chip("audit", exploit[row] ? "exploit" : "no exploit", exploit[row] ? "bad" : null)),
  ];
}

function promptPart(prompt) {
  const messages = prompt.messages.map((message) => el("div", { class: "message" }, el("div", { class: "who" }, el("b", {}, message.role ?? "message")),
    el("div", { class: "said mono" }, textOf(message.content ?? "")), (message.tool_calls ?? []).map((call) => callBlock(call))));
  const answer = prompt.answer === null || prompt.answer === undefined || prompt.answer === "None" ? [] : [
    el("div", { class: "message" }, el("div", { class: "who" }, el("b", {}, "expected answer")), typeof prompt.answer === "object" ? tree(prompt.answer) : el("div", { class: "said mono" }, String(prompt.answer)))];
  return [el("h2", {}, "Prompt"), ...messages, ...answer];
}

function turnsPart(body) {
  const most = strongest(body);
  let first = 0;
  const parts = body.turns.flatMap((turn, i) => {
    const seen = turn.context.length ? [el("div", { class: "message context" }, el("div", { class: "who" }, el("b", {}, "read"), `${turn.context.length} tokens`),
      el("div", { class: "said mono" }, contextTokens(turn.context)))] : [];
    const said = turnElement(body, turn, i, first, most);
    first += turn.ids.length;
    return [...seen, said];
  });
  return [el("h2", {}, body.turns.length > 1 ? `${body.turns.length} turns` : "Answer"), ...parts];
}

function turnElement(body, turn, number, first, most) {
  const versions = turn.versions.length ? `policy ${turn.versions.length > 1 ? `${turn.versions[0]}–${turn.versions[turn.versions.length - 1]}` : turn.versions[0]}` : "";
  const reward = turn.reward === null || turn.reward === undefined ? null : el("span", {}, "reward ", el("b", { class: turn.reward > 0 ? "good" : turn.reward < 0 ? "bad" : null }, fmt(turn.reward)));
  const head = el("div", { class: "who" }, el("b", {}, body.turns.length > 1 ? `turn ${number + 1}` : "sampled"), turn.role ? el("b", {}, turn.role) : null, `${turn.ids.length} tokens`, el("span", {}, turn.stop), el("span", {}, versions), reward);
  const tokens = el("div", { class: "said mono tokens" }, sampledTokens(body, turn, first, most));
  const text = turn.text || (INDEX.vocabulary ? textsOf(turn.ids).join("") : "");
  const flags = Object.keys(turn.flags ?? {}).length ? el("div", { class: "tree" }, tree(turn.flags)) : null;
  return el("div", { class: "turn" }, head, tokens, INDEX.vocabulary ? null : el("div", { class: "said mono" }, text), toolCalls(text).map((call) => callBlock(call)), flags);
}

// Calls in Hermes blocks: <tool_call>{"name": ..., "arguments": {...}}</tool_call>. What is no JSON is shown as it is.
function toolCalls(text) {
  return [...text.matchAll(/<tool_call>([\s\S]*?)<\/tool_call>/g)].map(([, inside]) => {
    try {
      return JSON.parse(inside);
    } catch {
      return { name: "unreadable call", arguments: inside.trim() };
    }
  });
}

function callBlock(call) {
  const { name, arguments: given } = call.function ?? call;
  const shown = typeof given === "string" ? given : JSON.stringify(given ?? call, null, 1);
  return el("div", { class: "call", "data-call": name ?? "" }, el("span", { class: "dim" }, "tool call "), el("b", {}, name ?? ""), el("pre", {}, shown));
}

function rewardsPart(body) {
  const parts = Object.entries(body.rewards).map(([name, reward]) => {
    const missing = "missing" in reward;
    const head = el("div", { class: "head" }, el("h3", {}, name), el("span", { class: missing ? "bad" : "num" }, missing ? `missing: ${reward.missing}` : fmt(reward.score)));
    const more = ["details", "channels"].filter((key) => reward[key] && Object.keys(reward[key]).length).map((key) => el("div", { class: "tree" }, tree(reward[key])));
    return el("div", { class: "part", "data-reward": name }, head, more);
  });
  return parts.length ? [el("h2", {}, "Rewards"), ...parts] : [];
}

function metricsPart(body) {
  const rows = Object.entries(body.metrics ?? {});
  return rows.length ? el("details", {}, el("summary", {}, `${rows.length} metrics of the rollout`), tableOf(null, rows)) : "";
}

// Any JSON: a mapping as rows, a list of mappings (verdicts of a judge) as a table, other lists one below the other.
function tree(value) {
  if (Array.isArray(value)) {
    if (value.length && value.every((item) => item && typeof item === "object" && !Array.isArray(item))) return verdicts(value);
    if (value.every((item) => item === null || typeof item !== "object")) return document.createTextNode(value.map(leaf).join(", "));
    return el("table", {}, value.map((item) => el("tr", {}, el("td", {}, tree(item)))));
  }
  if (value && typeof value === "object") {
    return el("table", {}, Object.entries(value).map(([key, item]) => el("tr", {}, el("td", { class: "key" }, key), el("td", {}, tree(item)))));
  }
  return el("span", { class: verdictClass(value) }, leaf(value));
}

function verdicts(rows) {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  return el("table", { class: "verdicts" }, el("tr", {}, names.map((name) => el("th", {}, name))),
    rows.map((row) => el("tr", {}, names.map((name) => el("td", {}, name in row ? tree(row[name]) : "")))));
}

function leaf(value) {
  return typeof value === "number" ? fmt(value) : String(value);
}

function verdictClass(value) {
  const said = String(value).toLowerCase();
  if (value === true || ["yes", "pass", "passed", "true", "satisfied", "met"].includes(said)) return "good";
  return value === false || ["no", "fail", "failed", "false", "violated", "unmet"].includes(said) ? "bad" : null;
}
