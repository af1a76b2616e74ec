// Settings, what differs between runs, the environment, and the events.

async function showSettings() {
  const tables = await data("tables");
  const panel = byId("panel-settings");
  const keep = (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const row of panel.querySelectorAll("#settings tbody tr")) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  };
  const differing = tables.runs.length > 1 ? [el("h2", {}, "Settings that differ"), el("div", { class: "card", id: "differing" },
    tables.differing.length ? tableOf(["setting", ...tables.runs], tables.differing) : "none")] : [];
  panel.replaceChildren(
    tables.overrides.length ? el("p", {}, el("span", { class: "dim" }, "command line "), el("code", {}, tables.overrides.join(" "))) : "",
    ...differing,
    el("div", { class: "tables" },
      el("div", { class: "card", id: "settings" }, el("div", { class: "bar" }, el("h2", { style: "margin:0" }, "Settings"), el("input", { type: "search", placeholder: "part of a name or value", "aria-label": "part of a name or value", oninput: keep })),
        tableOf(null, tables.settings)),
      el("div", { class: "card" }, el("h2", {}, "Environment"), tableOf(null, tables.environment))),
    el("p", { class: "dim" }, `Made ${RUN.made} by raylign from the files of the run folder.`));
}

async function showEvents() {
  const { events } = await data("tables");
  const start = events.length ? events[0].time : 0;
  const rows = events.map(({ time, step, kind, ...fields }) => [seconds(Math.max(0, time - start)), el("span", { class: "whole" }, String(step)),
    el("span", { class: kind === "alarm" ? "bad whole" : "whole" }, kind === "headline" ? "process began" : kind.replaceAll("_", " ")), fieldsOf(fields)]);
  byId("panel-events").replaceChildren(el("div", { class: "card" }, rows.length ? tableOf(["after", "step", "event", ""], rows) : "No events are recorded."));
}

// What an event says, as names and values; the numbers of a whole stage unfold.
function fieldsOf(fields) {
  const said = ([name, value]) => el("span", { class: "field" }, el("span", { class: "dim" }, name.replaceAll("_", " ")), " ",
    typeof value === "number" ? fmt(value) : typeof value === "object" && value !== null ? numbersOf(value) : String(value));
  return el("span", {}, Object.entries(fields).map(said));
}

function numbersOf(values) {
  const entries = Object.entries(values);
  if (!entries.length) return "none";
  return el("details", {}, el("summary", {}, `${entries.length}`), tableOf(null, entries.map(([name, value]) => [name, typeof value === "number" ? value : JSON.stringify(value)])));
}
