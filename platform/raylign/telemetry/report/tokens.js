// Tokens as coloured text: by advantage, gap between learner and sampler, loss mask, or probability.

const COLOURS = ["advantage", "gap", "mask", "probability", "none"];
let colour = "advantage";
let pieces = null; // id -> bytes

function colourBar() {
  const labels = { advantage: "advantage", gap: "log-prob gap", mask: "loss mask", probability: "probability", none: "nothing" };
  return el("div", { class: "bar" },
    el("label", {}, "tokens coloured by", el("select", { id: "colour", title: "next: c", onchange: (event) => setColour(event.target.value) }, options(COLOURS, COLOURS.map((name) => labels[name])))),
    el("span", { class: "scale", id: "scale" }), el("span", { class: "dim num", id: "found", role: "status" }));
}

function setColour(name) {
  colour = name;
  byId("colour").value = name;
  showDetail(order[chosen] ?? null);
}

function nextColour() {
  setColour(COLOURS[(COLOURS.indexOf(colour) + 1) % COLOURS.length]);
}

function bytesOf(id) {
  if (!pieces) {
    pieces = new Map();
    const { ids, pieces: packed } = INDEX.vocabulary;
    ids.forEach((number, i) => pieces.set(number, Uint8Array.from(atob(packed[i]), (letter) => letter.charCodeAt(0))));
  }
  return pieces.get(id) ?? new TextEncoder().encode(`<${id}>`);
}

// The text of each id; bytes of a split character show with the token that completes it.
function textsOf(ids) {
  if (!INDEX.vocabulary) return ids.map((id) => `${id} `);
  const decoder = new TextDecoder();
  return ids.map((id, i) => decoder.decode(bytesOf(id), { stream: i < ids.length - 1 }));
}

// Stream values of a rollout are one number for all sampled tokens, or one a token; `first` is the turn's first token.
function valueAt(stream, place) {
  return Array.isArray(stream) ? stream[place] ?? null : stream ?? null;
}

// How large a value has the strongest colour: the largest of this rollout.
function strongest(body) {
  if (colour === "gap") return Math.max(...asList(body.gap).map(Math.abs), 1e-12);
  if (colour === "advantage") return Math.max(...asList(body.advantage).map(Math.abs), 1e-12);
  return 1;
}

function asList(stream) {
  return Array.isArray(stream) ? stream : stream === null || stream === undefined ? [0] : [stream];
}

const tint = (name, share) => `color-mix(in srgb, ${name} ${(Math.min(1, share) * 62).toFixed(0)}%, transparent)`;

// The background of one sampled token, or null for none.
function tokenTint(facts, most) {
  const { advantage, gap, weight, logprob, learned } = facts;
  if (colour === "advantage" && advantage) return tint(advantage > 0 ? "var(--s0)" : "var(--s1)", Math.abs(advantage) / most);
  if (colour === "gap" && gap !== null) return tint("var(--s3)", Math.abs(gap) / most);
  if (colour === "mask") return learned ? tint("var(--s2)", 0.35 + 0.5 * Math.min(1, weight ?? 1)) : null;
  if (colour === "probability" && logprob !== undefined) return tint("var(--s4)", 1 - Math.exp(logprob));
  return null;
}

function sampledTokens(body, turn, first, most) {
  const texts = textsOf(turn.ids);
  return turn.ids.map((id, i) => {
    const place = first + i;
    const facts = { advantage: valueAt(body.advantage, place), gap: valueAt(body.gap, place), weight: valueAt(body.weight, place), logprob: turn.logprobs[i] };
    facts.learned = facts.advantage !== null && (facts.weight ?? 1) !== 0;
    return tokenElement(id, texts[i], tokenTint(facts, most), describeToken(id, facts));
  });
}

function contextTokens(ids) {
  const texts = textsOf(ids);
  return ids.map((id, i) => tokenElement(id, texts[i], null, `id ${id}\nread, not sampled: no loss`));
}

function tokenElement(id, text, background, title) {
  const special = /^<[^<>\s]+>$/.test(text);
  const shown = text === "\n" ? "⏎\n" : text;
  return el("span", { class: special ? "tok special" : "tok", title, "data-id": id, style: background ? `background:${background}` : null }, shown);
}

function describeToken(id, { advantage, gap, weight, logprob, learned }) {
  const lines = [`id ${id}`, `log-prob ${fmt(logprob)} (p ${fmt(Math.exp(logprob))})`];
  lines.push(gap === null ? "learner's log-prob not recorded" : `learner − sampler ${fmt(gap)}`);
  lines.push(advantage === null ? "no advantage: not learned from" : `advantage ${fmt(advantage)}`);
  if (weight !== null && weight !== 1) lines.push(`weight ${fmt(weight)}`);
  lines.push(learned ? "in the loss" : "not in the loss");
  return lines.join("\n");
}

function showScale(body) {
  const scale = byId("scale");
  const most = strongest(body);
  const band = (left, right, ...stops) => [left, el("i", { style: `background:linear-gradient(90deg, ${stops.join(",")})` }), right];
  const none = (stream) => stream === null || stream === undefined;
  const shown = {
    advantage: () => (none(body.advantage) ? ["this rollout was not learned from"] : band(fmt(-most), `+${fmt(most)}`, tint("var(--s1)", 1), "transparent", tint("var(--s0)", 1))),
    gap: () => (none(body.gap) ? ["the learner's log-probs of this rollout were not recorded"] : band("0", `${fmt(most)} nat`, "transparent", tint("var(--s3)", 1))),
    mask: () => [el("i", { style: `background:${tint("var(--s2)", 0.85)}` }), "in the loss"],
    probability: () => band("p = 1", "p = 0", "transparent", tint("var(--s4)", 1)),
    none: () => [],
  }[colour]();
  scale.replaceChildren(...shown);
}
