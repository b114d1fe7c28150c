// The watch page: asks for a board, then for each of its panels, and shows the answers. All text goes in as text, never as markup.
"use strict";

const RANGES = { "now-5m": "last 5 minutes", "now-15m": "last 15 minutes", "now-30m": "last 30 minutes", "now-1h": "last hour", "now-6h": "last 6 hours",
  "now-24h": "last day", "now-7d": "last week", "now-30d": "last 30 days" };
const REFRESHES = { "0": "paused", "5": "5 s", "10": "10 s", "30": "30 s", "60": "1 min" };
const AT_ONCE = 3;
const one = (id) => document.getElementById(id);
// The server answers within 40 s, be it that the store does not.
const ANSWER_MS = 45000;
// `complete`: when the newest round that everything shown belongs to began; `waiting`: since when a board without one is awaited (ms).
const state = { board: null, timer: 0, round: 0, every: null, complete: null, waiting: Date.now(), left: new AbortController() };

function made(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

async function asked(path, body) {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), ANSWER_MS);
  const signal = AbortSignal.any([late.signal, state.left.signal]);
  try {
    const answer = await fetch(path, body ? { signal, method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) } : { signal });
    if (!answer.ok && !(answer.headers.get("Content-Type") || "").includes("json")) throw new Error((await answer.text()).trim() || `answer ${answer.status}`);
    return await answer.json();
  } catch (error) {
    throw late.signal.aborted ? new Error(`no answer within ${ANSWER_MS / 1000} s`) : error;
  } finally {
    clearTimeout(timer);
  }
}

// --- where we are: the address holds the board, the range and the variables, so that it can be shared -----------------------------

const uid = () => decodeURIComponent(location.pathname.split("/")[2] || "");
const query = () => new URLSearchParams(location.search);

function go(change) {
  const next = query();
  change(next);
  history.pushState(null, "", `${location.pathname}?${next}`);
  look();
}

// --- the head: boards, range, refresh, variables ----------------------------------------------------------------------------------

async function boards() {
  const found = await asked("/api/boards");
  one("boards").replaceChildren(...found.map((b) => {
    const link = made("a", b.title.replace("Gigawatch: ", ""), { href: `/d/${encodeURIComponent(b.uid)}/${b.slug}`, "data-uid": b.uid });
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.button) return;
      event.preventDefault();
      const kept = new URLSearchParams([...query()].filter(([name]) => name.startsWith("var-") || name === "from" || name === "to"));
      history.pushState(null, "", `${link.pathname}?${kept}`);
      look();
    });
    return link;
  }));
}

function options(select, choices, chosen) {
  if (!(chosen in choices)) choices = { [chosen]: chosen, ...choices };
  select.replaceChildren(...Object.entries(choices).map(([value, text]) => made("option", text, { value })));
  select.value = chosen;
}

function head(board) {
  document.title = board.title;
  for (const link of one("boards").children) link.dataset.uid === board.uid ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  const choices = board.to === "now" && board.from in RANGES ? RANGES : { "": `${clock(board.from)} to ${clock(board.to)}`, ...RANGES };
  options(one("range"), choices, board.to === "now" && board.from in RANGES ? board.from : "");
  options(one("refresh"), REFRESHES, String(every(board)));
  one("variables").replaceChildren(...board.variables.filter((v) => !v.hidden).map(variable));
}

function variable(v) {
  const label = made("label", v.label);
  const select = made("select", null, { name: v.name, "aria-label": v.label });
  if (v.multi) select.append(made("option", "All", { value: "$__all" }));
  for (const o of v.options) select.append(made("option", o.text, { value: o.value }));
  if (!v.options.length) select.append(made("option", v.error || "no values", { value: "" }));
  if (v.chosen.length > 1) select.prepend(made("option", `${v.chosen.length} chosen`, { value: "" }));
  select.value = v.chosen.length > 1 ? "" : v.chosen[0] ?? "";
  select.addEventListener("change", () => go((next) => { next.delete(`var-${v.name}`); next.append(`var-${v.name}`, select.value); }));
  label.append(select);
  return label;
}

const every = (board) => state.every ?? (parseInt(board.refresh, 10) || 0);

// --- time: the server and the address have milliseconds since 1970; Plotly puts numbers on a time axis into the browser's zone itself ---

// The instant, ms since 1970, of an axis end as Plotly writes it: the browser's wall clock, "2026-01-02 03:04:05.678" or shorter.
function instant(text) {
  const [year, month, day, hour = 0, minute = 0, second = 0] = text.split(/[- :]/).map(Number);
  return new Date(year, month - 1, day, hour, minute).getTime() + Math.round(second * 1000);
}

const clock = (text) => /^\d+$/.test(text) ? new Date(Number(text)).toLocaleString() : text;

// --- panels ------------------------------------------------------------------------------------------------------------------------

function frames(board) {
  one("panels").replaceChildren(...board.panels.map((p) => {
    const section = made("section", null, { id: `panel-${p.id}`, "data-type": p.type, style: `grid-column:${p.grid.x + 1}/span ${p.grid.w};grid-row:${p.grid.y + 1}/span ${p.grid.h};--rows:${p.grid.h}` });
    const title = made("h2");
    title.append(made("span", p.title));
    if (p.description) title.append(tipped(made("button", "i", { type: "button", "aria-label": p.description }), p.description));
    const body = made("div", null, { class: "body" });
    body.append(made("div", "loading ...", { class: "note" }));
    section.append(title, body);
    return section;
  }));
}

function tipped(element, text) {
  const hide = () => document.getElementById("tip")?.remove();
  const show = () => {
    hide();
    const tip = made("div", text, { id: "tip", role: "tooltip" });
    document.body.append(tip);
    const at = element.getBoundingClientRect();
    tip.style.left = `${Math.max(6, Math.min(at.left, innerWidth - tip.offsetWidth - 10))}px`;
    tip.style.top = `${at.bottom + tip.offsetHeight + 12 > innerHeight ? at.top - tip.offsetHeight - 6 : at.bottom + 6}px`;
  };
  for (const event of ["mouseenter", "focus"]) element.addEventListener(event, show);
  for (const event of ["mouseleave", "blur"]) element.addEventListener(event, hide);
  return element;
}

async function panel(board, p, round) {
  const section = one(`panel-${p.id}`);
  section.classList.add("busy");
  const variables = Object.fromEntries(board.variables.map((v) => [v.name, v.chosen[0] === "$__all"
    ? { values: v.options.map((o) => o.value), all: true } : { values: v.chosen }]));
  let drawn;
  try {
    drawn = await asked(`/api/boards/${encodeURIComponent(board.uid)}/panels/${p.id}`,
      { from: board.from, to: board.to, points: Math.round(section.clientWidth / 2), variables });
  } catch (error) {
    if (round !== state.round) return;
    drawn = { kind: "error", text: `no answer: ${error.message}` };
    state.failed = true;
  }
  if (round !== state.round) return;
  section.classList.remove("busy");
  section.dataset.kind = drawn.kind;
  const body = section.querySelector(".body");
  try {
    (SHOWN[drawn.kind] || SHOWN.error)(body, drawn, board);
  } catch (error) {
    SHOWN.error(body, { text: `cannot be drawn: ${error.message}` });
    console.error(error);
  }
}

const SHOWN = {
  empty: (body, drawn) => clean(body).append(made("div", drawn.text, { class: "note" })),
  error: (body, drawn) => clean(body).append(made("div", drawn.text, { class: "note error" })),
  numbers: (body, drawn) => {
    const box = made("div", null, { class: drawn.values.length > 1 ? "numbers many" : "numbers" });
    for (const v of drawn.values) {
      const cell = made("div");
      const number = made("b");
      number.append(linked(v.text, v.href));
      number.style.color = v.colour;
      cell.append(number);
      if (v.title) cell.append(made("small", v.title));
      box.append(cell);
    }
    clean(body).append(box);
  },
  bars: (body, drawn) => {
    const box = made("div", null, { class: "bars" });
    for (const row of drawn.rows) {
      const bar = made("i");
      bar.style.setProperty("--share", row.share);
      bar.style.setProperty("--colour", row.colour);
      box.append(made("span", row.name, { title: row.name }), bar, made("b", row.text));
    }
    clean(body).append(box);
  },
  plot: (body, drawn, board) => {
    let plot = body.querySelector(".plot");
    if (!plot) {
      plot = made("div", null, { class: "plot" });
      clean(body).append(plot);
    }
    if (drawn.timed && drawn.layout.yaxis.type !== "category") annotate(drawn.layout, board.annotations);
    Plotly.react(plot, drawn.data, drawn.layout, { displayModeBar: false, responsive: true });
    if (!plot.dataset.ready) {
      plot.dataset.ready = "yes";
      plot.on("plotly_click", (event) => {
        const point = event.points[0];
        const href = point.data.meta?.hrefs?.[point.y] || point.data.meta?.href;
        if (href) follow(href);
      });
      plot.on("plotly_relayout", (change) => {
        const [from, to] = [change["xaxis.range[0]"], change["xaxis.range[1]"]].map((end) => end === undefined ? 0 : instant(end));
        if (from && to) go((next) => { next.set("from", from); next.set("to", to); });
      });
    }
  },
  table: (body, drawn) => {
    const kept = body.querySelector("table");
    const sort = kept ? { column: Number(kept.dataset.column ?? -1), down: kept.dataset.down === "yes" } : { column: -1, down: true };
    const table = made("table");
    const top = made("tr");
    drawn.columns.forEach((c, k) => {
      const cell = made("th", c.title, { class: c.right ? "right" : "", tabindex: "0", ...(k === sort.column ? { "aria-sort": sort.down ? "descending" : "ascending" } : {}) });
      const turn = () => { table.dataset.column = k; table.dataset.down = sort.column === k && sort.down ? "no" : "yes"; SHOWN.table(body, drawn); };
      cell.addEventListener("click", turn);
      cell.addEventListener("keydown", (event) => event.key === "Enter" && turn());
      top.append(cell);
    });
    const rows = sort.column < 0 ? drawn.rows : [...drawn.rows].sort((a, b) => {
      const [x, y] = [a, b].map((row) => row[sort.column].sort ?? row[sort.column].text);
      return (x < y ? -1 : x > y ? 1 : 0) * (sort.down ? -1 : 1);
    });
    const at = body.scrollTop;
    table.append(made("thead"), made("tbody"));
    table.tHead.append(top);
    if (sort.column >= 0) Object.assign(table.dataset, { column: sort.column, down: sort.down ? "yes" : "no" });
    for (const row of rows) {
      const line = made("tr");
      row.forEach((cell, k) => {
        const element = made("td", null, { class: drawn.columns[k].right && !cell.time ? "right" : "" });
        element.append(linked(cell.time ? new Date(cell.time).toLocaleTimeString([], { hour12: false }) : cell.text, cell.href));
        if (cell.time) element.title = new Date(cell.time).toLocaleString();
        if (cell.colour) element.style.color = cell.colour;
        line.append(element);
      });
      table.tBodies[0].append(line);
    }
    clean(body).append(table);
    body.scrollTop = at;
  },
};

function clean(body) {
  const plot = body.querySelector(".plot");
  if (plot) Plotly.purge(plot);
  body.replaceChildren();
  return body;
}

function linked(text, href) {
  if (!href) return document.createTextNode(text);
  const link = made("a", text, { href });
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.button) return;
    event.preventDefault();
    follow(href);
  });
  return link;
}

function follow(href) {
  history.pushState(null, "", href);
  look();
}

function annotate(layout, marks) {
  layout.shapes = layout.shapes || [];
  layout.annotations = [];
  const faint = Math.min(0.1, 0.2 / Math.max(1, marks.length)); // many at once must not hide what they mark
  for (const mark of marks) {
    const [x0, x1] = [mark.time, mark.end ?? mark.time];
    layout.shapes.push({ type: mark.end ? "rect" : "line", xref: "x", yref: "paper", x0, x1, y0: 0, y1: 1, layer: "below", fillcolor: mark.colour,
      opacity: mark.end ? faint : 0.9, line: { color: mark.colour, width: mark.end ? 0 : 1, dash: "dot" } });
    layout.annotations.push({ x: Math.max(x0, layout.xaxis.range[0]), y: 1, xref: "x", yref: "paper", yanchor: "bottom", xanchor: "left", text: "▾", showarrow: false,
      font: { color: mark.colour, size: 11 }, hovertext: mark.text.replace(/[<>&]/g, " "), yshift: -6 });
  }
}

// --- the rounds ----------------------------------------------------------------------------------------------------------------------

async function look() {
  clearTimeout(state.timer);
  const round = ++state.round, began = Date.now();
  state.left.abort(); // of the round before: a request that nobody waits for holds one of the browser's few connections
  state.left = new AbortController();
  state.failed = false;
  const address = query();
  delete document.body.dataset.shown;
  let board;
  try {
    board = await asked(`/api/boards/${encodeURIComponent(uid())}?${address}`);
    one("trouble").hidden = true;
  } catch (error) {
    if (round !== state.round) return;
    one("trouble").textContent = `The store does not answer: ${error.message}. Trying again.`;
    one("trouble").hidden = false;
    state.timer = setTimeout(look, 3000);
    return;
  }
  if (round !== state.round) return;
  const fresh = state.board?.uid !== board.uid || state.board.panels.length !== board.panels.length;
  state.board = board;
  if (fresh) {
    Object.assign(state, { complete: null, waiting: began });
    frames(board);
  }
  if (!one("variables").contains(document.activeElement) || fresh) head(board);
  const queue = [...board.panels];
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    while (queue.length && round === state.round) await panel(board, queue.shift(), round);
  }));
  if (round !== state.round) return;
  await alerts(round);
  if (round !== state.round) return;
  one("clock").textContent = new Date().toLocaleTimeString([], { hour12: false });
  if (!state.failed) state.complete = began;
  age();
  document.body.dataset.shown = `${location.pathname}${location.search}`; // all of this address is drawn
  again();
}

// States how old what is shown is, as soon as that is more than two refreshes; by its own timer, since an answer may never come.
function age() {
  const seconds = state.board ? every(state.board) : 10;
  const old = (Date.now() - (state.complete ?? state.waiting)) / 1000;
  const late = seconds > 0 && old > 2 * seconds;
  one("clock").classList.toggle("late", late);
  one("age").hidden = !late;
  if (!late) return;
  const length = old < 120 ? `${Math.floor(old)} s` : old < 7200 ? `${Math.floor(old / 60)} min` : `${Math.floor(old / 3600)} h`;
  one("age").textContent = state.complete === null ? `No complete answer for ${length}.`
    : `What is shown is ${length} old: the last complete answer is of ${new Date(state.complete).toLocaleTimeString([], { hour12: false })}.`;
}

function again() {
  clearTimeout(state.timer);
  const seconds = every(state.board);
  if (seconds) state.timer = setTimeout(() => document.hidden ? again() : look(), seconds * 1000);
}

async function alerts(round) {
  const found = await asked("/api/alerts").catch(() => null);
  if (round !== state.round) return;
  const box = one("alerts");
  box.hidden = false;
  box.classList.toggle("unknown", found === null);
  if (found === null) {
    state.failed = true;
    box.querySelector("summary").textContent = "alerts unknown";
    box.querySelector("div").replaceChildren(made("p", "The rules could not be evaluated."));
    return;
  }
  box.classList.toggle("quiet", !found.length);
  box.querySelector("summary").textContent = found.length ? `${found.length} alert${found.length > 1 ? "s" : ""}` : "no alerts";
  box.querySelector("div").replaceChildren(...(found.length ? found.map((a) => {
    const line = made("p");
    line.append(linked(a.summary, a.href), made("small", `${a.severity}: ${a.title}; ${a.runbook}`));
    return line;
  }) : [made("p", "No alert rule fires.")]));
}

one("range").addEventListener("change", (event) => event.target.value && go((next) => { next.set("from", event.target.value); next.set("to", "now"); }));
one("refresh").addEventListener("change", (event) => { state.every = Number(event.target.value); again(); });
one("variables").addEventListener("submit", (event) => event.preventDefault());
setInterval(age, 1000);
addEventListener("popstate", look);
document.addEventListener("visibilitychange", () => !document.hidden && state.board && every(state.board) && look());
boards().then(look, (error) => { one("trouble").textContent = `This page's server does not answer: ${error.message}`; one("trouble").hidden = false; });
