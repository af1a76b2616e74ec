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
  const rows = events.map(({ time, step, kind, ...fields }) => [seconds(Math.max(0, time - start)), String(step),
    el("span", { class: kind === "alarm" ? "bad" : null }, kind), Object.entries(fields).map(([key, value]) => `${key}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join("  ").slice(0, 600)]);
  byId("panel-events").replaceChildren(el("div", { class: "card" }, rows.length ? tableOf(["after", "step", "event", ""], rows) : "No events are recorded."));
}
