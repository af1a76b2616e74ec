// The list of rollouts: only the rows in sight are elements, whatever the number of rollouts.

const ROW = 46; // pixels, as in the style
const BEYOND = 6; // rows kept above and below what is in sight
let chosen = -1; // place in `order`

function listBox() {
  return el("div", { class: "card list", id: "list", tabindex: "0", role: "listbox", "aria-label": "rollouts", onscroll: drawRows, onkeydown: listKey },
    el("div", { class: "space", id: "space" }));
}

// A new order: back to the top, the first rollout chosen.
function resetList() {
  byId("space").style.height = `${order.length * ROW}px`;
  byId("list").scrollTop = 0;
  chosen = order.length ? 0 : -1;
  drawRows();
  showDetail(order[chosen] ?? null);
}

function drawRows() {
  const list = byId("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - BEYOND);
  const last = Math.min(order.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + BEYOND);
  const rows = [];
  for (let place = first; place < last; place++) rows.push(rowElement(place));
  byId("space").replaceChildren(...rows);
  if (chosen >= first && chosen < last) list.setAttribute("aria-activedescendant", `row-${chosen}`);
  else list.removeAttribute("aria-activedescendant");
}

function rowElement(place) {
  const row = order[place];
  const { step, stage, stop, score, advantage, tokens, turns, exploit } = INDEX.columns;
  const facts = [
    el("span", {}, `${INDEX.stages[stage[row]] || ""} step `, el("b", {}, String(stageStep(INDEX.stages[stage[row]], step[row])))),
    el("span", {}, "score ", el("b", {}, fmt(score[row]))),
    advantage[row] === null ? null : el("span", {}, "adv ", el("b", { class: advantage[row] > 0 ? "good" : advantage[row] < 0 ? "bad" : null }, fmt(advantage[row]))),
    el("span", {}, `${tokens[row]} tok`), turns[row] > 1 ? el("span", {}, `${turns[row]} turns`) : null, el("span", {}, INDEX.stops[stop[row]]),
    exploit[row] ? el("span", { class: "bad" }, "exploit") : null,
  ];
  return el("div", { class: "row", id: `row-${place}`, role: "option", "aria-selected": String(place === chosen), "data-row": row, style: `top:${place * ROW}px`,
    onclick: () => choose(place) },
  el("div", { class: "one" }, facts), el("div", { class: "two" }, INDEX.previews[row] || el("span", { class: "dim" }, "(no text)")));
}

function choose(place) {
  if (!order.length) return;
  chosen = Math.min(order.length - 1, Math.max(0, place));
  const list = byId("list");
  if (chosen * ROW < list.scrollTop) list.scrollTop = chosen * ROW;
  else if ((chosen + 1) * ROW > list.scrollTop + list.clientHeight) list.scrollTop = (chosen + 1) * ROW - list.clientHeight;
  drawRows();
  showDetail(order[chosen]);
}

// The next or the last rollout of another prompt or step: the samples of one group stand together in recorded order.
function chooseGroup(direction) {
  const same = (a, b) => INDEX.columns.prompt[a] === INDEX.columns.prompt[b] && INDEX.columns.step[a] === INDEX.columns.step[b];
  let place = chosen;
  while (order[place + direction] !== undefined && same(order[place], order[place + direction])) place += direction;
  choose(place + direction);
}

function listKey(event) {
  const page = Math.max(1, Math.floor(byId("list").clientHeight / ROW) - 1);
  const action = {
    ArrowDown: () => choose(chosen + 1), ArrowUp: () => choose(chosen - 1),
    PageDown: () => choose(chosen + page), PageUp: () => choose(chosen - page),
    Home: () => choose(0), End: () => choose(order.length - 1), Enter: () => byId("detail").focus(),
  }[event.key];
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  action();
}
