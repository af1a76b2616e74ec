// The rollout browser: filters over columns, a search over texts that are unpacked piece by piece, sorting.

let INDEX = null;
let order = []; // rows that pass the filters, in the order shown
let loweredPrompts = [];
const filters = { text: "", stage: "", stop: "", reward: "score", low: null, high: null, from: null, to: null, audit: "", sort: "recorded" };
const unfiltered = { ...filters };
let searching = 0; // number of the newest search: an older one gives up

async function showRollouts() {
  const panel = byId("panel-rollouts");
  INDEX = await data("index");
  if (!INDEX) {
    panel.replaceChildren(el("p", { class: "empty" }, "No rollouts are recorded (yet)."));
    return;
  }
  loweredPrompts = INDEX.prompts.map((prompt) => prompt.messages.map((message) => textOf(message.content)).join("\n").toLowerCase());
  panel.replaceChildren(filterBar(), colourBar(), el("div", { class: "browser" }, listBox(), el("div", { class: "card detail", id: "detail", tabindex: "0", "aria-label": "the chosen rollout" })));
  await applyFilters();
}

function textOf(content) {
  return typeof content === "string" ? content : JSON.stringify(content);
}

function options(values, labels = values) {
  return values.map((value, i) => el("option", { value }, labels[i]));
}

function filterBar() {
  const set = (key, read = (t) => t.value) => (event) => {
    filters[key] = read(event.target);
    applyFilters();
  };
  const number = (t) => (t.value === "" ? null : Number(t.value));
  const field = (id, key, label) => el("input", { type: "number", step: "any", id, "aria-label": label, placeholder: label, oninput: later(set(key, number), 120) });
  const rewards = ["score", "advantage", ...Object.keys(INDEX.rewards).map((name) => `reward ${name}`), "tokens", "turns"];
  return el("div", { class: "bar filters" },
    el("input", { type: "search", id: "search", placeholder: "text ( / )", "aria-label": "search in prompts and answers", oninput: later(set("text", (t) => t.value.toLowerCase()), 180) }),
    el("label", {}, "stage", el("select", { id: "filter-stage", onchange: set("stage") }, options(["", ...INDEX.stages], ["all", ...INDEX.stages]))),
    el("label", {}, "stop", el("select", { id: "filter-stop", onchange: set("stop") }, options(["", ...INDEX.stops], ["all", ...INDEX.stops]))),
    el("label", {}, el("select", { id: "filter-reward", "aria-label": "number that is filtered by", onchange: set("reward") }, options(rewards)), field("filter-low", "low", "from"), "–", field("filter-high", "high", "to")),
    el("label", {}, "step of the stage", field("filter-from", "from", "first"), "–", field("filter-to", "to", "last")),
    INDEX.columns.exploit.some((flag) => flag !== null) ? el("label", {}, "audit", el("select", { id: "filter-audit", onchange: set("audit") },
      options(["", "1", "0"], ["all", "exploits", "no exploits"]))) : null,
    el("label", {}, "order", el("select", { id: "sort", onchange: set("sort") }, options(
      ["recorded", "score-down", "score-up", "advantage-down", "advantage-up", "tokens-down", "tokens-up", "newest"],
      ["as recorded", "score, high first", "score, low first", "advantage, high first", "advantage, low first", "longest first", "shortest first", "newest first"]))));
}

// The rollout browser with one rollout open, whatever was filtered before.
async function openRollout(row) {
  await openTab("rollouts", true);
  if (!order.includes(row)) {
    Object.assign(filters, unfiltered);
    await showRollouts();
  }
  choose(order.indexOf(row));
}

function columnOf(name) {
  return name.startsWith("reward ") ? INDEX.rewards[name.slice(7)] : INDEX.columns[name];
}

function passing() {
  const { step, stage, stop, exploit } = INDEX.columns;
  const column = columnOf(filters.reward);
  const wantedStage = INDEX.stages.indexOf(filters.stage);
  const wantedStop = INDEX.stops.indexOf(filters.stop);
  const bounded = filters.low !== null || filters.high !== null;
  const matches = [];
  for (let i = 0; i < step.length; i++) {
    if (filters.stage && stage[i] !== wantedStage) continue;
    if (filters.stop && stop[i] !== wantedStop) continue;
    if (filters.audit && exploit[i] !== Number(filters.audit)) continue;
    const own = stageStep(INDEX.stages[stage[i]], step[i]); // as the list shows it
    if (filters.from !== null && own < filters.from) continue;
    if (filters.to !== null && own > filters.to) continue;
    if (bounded && (column[i] === null || (filters.low !== null && column[i] < filters.low) || (filters.high !== null && column[i] > filters.high))) continue;
    matches.push(i);
  }
  return matches;
}

function sorted(rows) {
  const [key, way] = filters.sort.split("-");
  if (key === "recorded") return rows;
  if (key === "newest") return rows.slice().reverse();
  const column = INDEX.columns[key];
  const sign = way === "down" ? -1 : 1;
  const last = Infinity; // rows without the number come last either way
  return rows.slice().sort((a, b) => (column[a] === null ? last : sign * column[a]) - (column[b] === null ? last : sign * column[b]) || a - b);
}

async function applyFilters() {
  const mine = ++searching;
  let rows = passing();
  if (filters.text) {
    rows = await searched(rows, mine);
    if (mine !== searching) return; // something else is asked for by now
  }
  order = sorted(rows);
  const thinned = INDEX.every > 1 ? ` (every ${INDEX.every}th recorded step; ${INDEX.recorded.toLocaleString("en")} rollouts recorded)` : "";
  byId("found").textContent = `${order.length.toLocaleString("en")} of ${INDEX.columns.step.length.toLocaleString("en")}${thinned}`;
  resetList();
}

async function searched(rows, mine) {
  const matches = [];
  let chunk = -1;
  let texts = [];
  for (const row of rows) {
    const wanted = Math.floor(row / INDEX.texts);
    if (wanted !== chunk) {
      chunk = wanted;
      texts = await loweredTexts(chunk);
      byId("found").textContent = `searching, ${matches.length} so far`;
      await breathe();
      if (mine !== searching) return [];
    }
    if (texts[row % INDEX.texts].includes(filters.text) || loweredPrompts[INDEX.columns.prompt[row]].includes(filters.text)) matches.push(row);
  }
  return matches;
}

const lowered = new Map(); // chunk -> its texts in lower case

async function loweredTexts(chunk) {
  if (!lowered.has(chunk)) lowered.set(chunk, (await data(`texts-${chunk}`)).map((text) => text.toLowerCase()));
  return lowered.get(chunk);
}
