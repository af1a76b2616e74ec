// Tabs, keys, theme; every view is made when it is first opened.

const TABS = [
  { name: "curves", label: "Curves", show: showCurves },
  { name: "timeline", label: "Timeline", show: showTimeline },
  { name: "rollouts", label: "Rollouts", show: showRollouts, count: RUN.rollouts },
  { name: "settings", label: "Settings", show: showSettings },
  { name: "events", label: "Events", show: showEvents },
  ...(RUN.audited === null ? [] : [{ name: "audit", label: "Audit", show: showAudit, count: RUN.audited }]),
];
const opened = new Set();

const KEYS = [
  [`1 – ${TABS.length}`, TABS.map((tab) => tab.name).join(", ")],
  ["/", "search (rollouts; names of metrics among the curves)"],
  ["↑ ↓ PgUp PgDn Home End", "move in the list of rollouts"],
  ["j k", "next, previous rollout, wherever the focus is"],
  ["n p", "next, previous group of samples"],
  ["Enter, Esc", "from the list to the rollout, and back"],
  ["c", "colour tokens by the next measure"],
  ["← →", "move the cursor of a focused curve (Shift: ten steps), or the timeline"],
  ["+ − 0", "timeline: closer, farther, whole run"],
  ["t", "light, dark"],
  ["?", "this list"],
];

async function openTab(name, focus = false) {
  for (const tab of TABS) {
    const selected = tab.name === name;
    byId(`tab-${tab.name}`).setAttribute("aria-selected", String(selected));
    byId(`tab-${tab.name}`).tabIndex = selected ? 0 : -1;
    byId(`panel-${tab.name}`).hidden = !selected;
  }
  if (focus) byId(`tab-${name}`).focus();
  if (!opened.has(name)) {
    opened.add(name);
    await TABS.find((tab) => tab.name === name).show();
  }
  document.body.dataset.ready = name;
}

function currentTab() {
  return TABS.find((tab) => !byId(`panel-${tab.name}`).hidden).name;
}

function showTabs() {
  byId("tabs").append(...TABS.map((tab) => el("button", { type: "button", role: "tab", id: `tab-${tab.name}`, "aria-controls": `panel-${tab.name}`, onclick: () => openTab(tab.name) },
    tab.label, tab.count ? el("span", { class: "count" }, tab.count.toLocaleString("en")) : null)));
  byId("tabs").addEventListener("keydown", (event) => {
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!direction) return;
    event.preventDefault();
    const place = TABS.findIndex((tab) => tab.name === currentTab());
    openTab(TABS[(place + direction + TABS.length) % TABS.length].name, true);
  });
}

function showHelp() {
  const help = byId("help");
  if (help.open) {
    help.close();
    return;
  }
  const rows = KEYS.map(([keys, what]) => el("tr", {}, el("td", {}, el("kbd", {}, keys)), el("td", {}, what)));
  help.replaceChildren(el("h2", {}, "Keys"), el("table", {}, rows), el("form", { method: "dialog", style: "text-align:right;margin-top:10px" }, el("button", {}, "close")));
  help.showModal();
}

function switchTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme;
  const now = dark === "dark" || dark === "light" ? dark : matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  document.documentElement.style.colorScheme = now === "dark" ? "light" : "dark";
}

const ROLLOUT_KEYS = {
  j: () => choose(chosen + 1), k: () => choose(chosen - 1), n: () => chooseGroup(1), p: () => chooseGroup(-1), c: nextColour, Escape: () => byId("list").focus(),
};

function globalKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName) && event.target.type !== "range" && event.target.type !== "checkbox";
  if (typing && event.key === "Escape") event.target.blur();
  if (typing && !(event.key === "Escape" && currentTab() === "rollouts")) return;
  const number = Number(event.key);
  if (number >= 1 && number <= TABS.length) openTab(TABS[number - 1].name, true);
  else if (event.key === "t") switchTheme();
  else if (event.key === "?") showHelp();
  else if (event.key === "/") (byId(currentTab() === "curves" ? "curve-filter" : "search") ?? byId("tabs")).focus();
  else if (currentTab() === "rollouts" && INDEX && ROLLOUT_KEYS[event.key]) ROLLOUT_KEYS[event.key]();
  else return;
  event.preventDefault();
}

document.addEventListener("keydown", globalKey);
byId("theme").addEventListener("click", switchTheme);
byId("help-button").addEventListener("click", showHelp);
showHeadline();
showTabs();
openTab(TABS.some((tab) => `#${tab.name}` === location.hash) ? location.hash.slice(1) : "curves");
