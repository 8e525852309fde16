// The log of everything, or of one robot: a page of what is there, earlier and later ones at the press of a button, and
// what comes. Lines are told apart by their ID, so what a page and the stream both bring is shown once.
import { button, make } from "./dom.js";
import { LogView, gapRow, lineRow } from "./logview.js";
import { _, language, number } from "./words.js";

const API = "/api/v1/logs";
const PAGE = 500;
const AROUND = 25;
// numbers of these are no line numbers: how often an Event was seen, which entry of the audit trail it is
const COUNTED = new Set(["event", "audit"]);
const FIELDS = ["namespace", "robot", "activity", "definition", "source", "level", "stream"];
const view = document.getElementById("log");
const query = new URLSearchParams(view?.dataset.query ?? "");
if (view) start();

async function start() {
  const log = new LogView(view);
  const wanted = new URLSearchParams(location.search).get("line");
  const known = { seqs: new Map(), whole: false };
  const waiting = [];
  let loaded = false;
  let later = null;

  document.getElementById("live")?.addEventListener("log", (event) => {
    const lines = JSON.parse(event.detail.data);
    if (!loaded) waiting.push(...lines);
    else arrive(lines);
  });
  log.placeholder(_("Looking…"));
  if (wanted) log.follow.checked = false;
  log.atHead = () => !later;
  const page = wanted ? await around(wanted) : await load({});
  if (!page) return;
  known.whole = page.wholeStreams;
  page.lines.forEach(show);
  view.querySelector(".k-log-empty")?.remove();
  if (page.older) view.prepend(log.earlier(() => before(page.older)));
  if (page.lines.length === 0) log.placeholder(page.complete ? view.dataset.empty : _("Nothing so far: press Earlier lines to look further back."));
  if (wanted) {
    const line = document.getElementById(`L${wanted}`);
    line?.classList.add("k-wanted");
    line?.scrollIntoView({ block: "center" });
    later = page.newer;
    if (later) view.append(laterButton());
  } else log.toEnd();
  loaded = true;
  arrive(waiting);
  histogram();

  function arrive(lines) {
    const fresh = lines.filter((line) => !document.getElementById(`L${line.id}`));
    if (later) return log.added(fresh.length);
    fresh.forEach(show);
    log.added(fresh.length);
  }

  function show(line) {
    const gap = gapBefore(line);
    if (gap) log.put(gap);
    log.put(row(line));
  }

  // whole streams are shown: then a number that is missing is a line that was lost
  function gapBefore(line) {
    const stream = `${line.uid} ${line.token}`;
    const last = known.seqs.get(stream);
    known.seqs.set(stream, Math.max(line.seq, last ?? 0));
    if (!known.whole || last === undefined || line.seq <= last + 1 || COUNTED.has(line.source)) return null;
    const reason = line.activity ? _("lost with the robot's spool") : _("its sender had no room for them");
    return gapRow(last + 1, line.seq - 1, reason);
  }

  async function before(cursor) {
    const found = await load({ cursor });
    return found && { rows: found.lines.map(row), more: found.older && (() => before(found.older)) };
  }

  function laterButton() {
    const more = button(_("Later lines"), "btn btn-sm k-log-earlier", async () => {
      const found = await load({ cursor: later });
      if (!found) return;
      more.remove();
      for (const line of found.lines) if (!document.getElementById(`L${line.id}`)) log.put(row(line));
      later = found.lines.length ? found.newer : null;
      if (later) view.append(laterButton());
    });
    return more;
  }

  log.thaw = function () {
    if (later) location.assign(address({ line: null }));
    else LogView.prototype.thaw.call(log);
  };
}

async function load(more) {
  const wanted = new URLSearchParams(query);
  wanted.set("limit", PAGE);
  for (const [key, value] of Object.entries(more)) wanted.set(key, value);
  return ask(`${API}?${wanted}`);
}

async function around(id) {
  const line = await ask(`${API}/${id}`);
  if (!line) return null;
  const at = `${BigInt(Date.parse(line.time)) * 1000n + BigInt(line.time.match(/\.\d{3}(\d{3})/)?.[1] ?? 0)}`;
  const [older, newer] = await Promise.all([
    load({ cursor: `older.${at}.${line.id}`, limit: AROUND * 2 }),
    load({ cursor: `newer.${at}.${line.id}`, limit: AROUND * 2 }),
  ]);
  if (!older || !newer) return null;
  return { ...newer, older: older.older, newer: newer.lines.length ? newer.newer : null, lines: [...older.lines, line, ...newer.lines] };
}

async function ask(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } }).catch(() => null);
  if (answer?.ok) return answer.json();
  const problem = await answer?.json().catch(() => null);
  const place = document.getElementById("log-problem");
  place.textContent = problem?.errors?.[0]?.message ?? problem?.detail ?? _("The panel does not answer. Reload the page to try again.");
  place.hidden = false;
  view.querySelector(".k-log-empty")?.remove();
  return null;
}

function row(record) {
  const line = lineRow(record, { id: `L${record.id}`, href: address({ line: record.id }), label: record.id });
  const words = line.querySelector(".k-words");
  const from = make("span", "k-from", record.robot || record.origin || record.source);
  const more = button("⋯", "k-more", () => toggle(line, record), "⋯", _("About line %(number)s", { number: record.id }));
  more.setAttribute("aria-expanded", "false");
  line.querySelector("time").after(from);
  words.after(more);
  return line;
}

function toggle(line, record) {
  const open = line.nextElementSibling?.classList.contains("k-known") ? line.nextElementSibling : null;
  line.querySelector(".k-more").setAttribute("aria-expanded", String(!open));
  if (open) return open.remove();
  const box = make("div", "k-known");
  const list = make("dl");
  for (const name of FIELDS) {
    if (!record[name]) continue;
    const value = make("dd", "", record[name]);
    const token = `${name}:${record[name]}`;
    value.append(
      button(_("Only %(field)s", { field: token }), "k-plus", () => look(token), "+"),
      button(_("Without %(field)s", { field: token }), "k-plus", () => look(`-${token}`), "−"),
    );
    list.append(make("dt", "", name), value);
  }
  list.append(make("dt", "", _("time")), make("dd", "", new Date(record.time).toLocaleString(language)), make("dt", "", _("number")), make("dd", "", `${record.seq}`));
  const actions = make("p", "k-actions");
  actions.append(button(_("±50 lines around it"), "btn btn-sm", () => showAround(record)));
  if (record.activity) {
    const link = make("a", "btn btn-sm", _("Go to the activity"));
    link.href = `/activities/${record.namespace}/${record.activity}?line=${record.token}:${record.seq}`;
    actions.append(link);
  }
  if (record.robot) {
    const link = make("a", "btn btn-sm", _("Go to the robot"));
    link.href = `/robots/${record.namespace}/${record.robot}?tab=log`;
    actions.append(link);
  }
  box.append(list, actions);
  line.after(box);
}

function look(token) {
  const text = new URLSearchParams(location.search).get("text") ?? "";
  location.assign(address({ text: `${text} ${token}`.trim(), line: null }));
}

async function showAround(record) {
  const lines = await ask(`${API}/${record.id}/around`);
  if (!lines) return;
  const dialog = document.getElementById("log-around");
  const place = dialog.querySelector(".k-log");
  place.replaceChildren();
  let last = lines[0]?.seq - 1;
  for (const each of lines) {
    if (each.seq > last + 1) place.append(gapRow(last + 1, each.seq - 1, _("lost, or kept no longer")));
    last = each.seq;
    const line = lineRow(each, { id: `A${each.id}`, href: address({ line: each.id }), label: each.seq });
    line.classList.toggle("k-wanted", each.id === record.id);
    place.append(line);
  }
  dialog.showModal();
  document.getElementById(`A${record.id}`).scrollIntoView({ block: "center" });
}

function address(changes) {
  const wanted = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries(changes)) value === null ? wanted.delete(key) : wanted.set(key, value);
  return `${location.pathname}?${wanted}${changes.line ? `#L${changes.line}` : ""}`;
}

async function histogram() {
  const place = document.getElementById("log-bars");
  if (!place) return;
  const found = await ask(`${API}/histogram?${query}`);
  if (!found) return;
  const sum = (bar) => Object.values(bar.lines).reduce((all, lines) => all + lines, 0);
  const most = Math.max(1, ...found.bars.map(sum));
  const bars = new Map(found.bars.map((bar) => [Date.parse(bar.at), bar]));
  const title = (at) => new Date(at).toLocaleString(language, { dateStyle: "short", timeStyle: "short" });
  const step = found.width * 1000;
  place.replaceChildren();
  let all = 0;
  for (let at = Date.parse(found.since); at < Date.parse(found.until); at += step) {
    const bar = bars.get(at) ?? { lines: {} };
    const lines = sum(bar);
    const bad = (bar.lines.ERROR ?? 0) + (bar.lines.CRITICAL ?? 0);
    all += lines;
    const uncounted = at < Date.parse(found.countedSince);
    const column = make(lines ? "a" : "span", `k-stroke${uncounted ? " k-uncounted" : ""}`);
    if (lines) {
      column.href = address({ since: new Date(at).toISOString(), until: new Date(at + step).toISOString(), line: null });
      const words = { at: title(at), lines: number(lines), bad: number(bad) };
      column.title = _("%(at)s: %(lines)s lines, %(bad)s of them errors", words);
      column.setAttribute("aria-label", column.title);
    }
    const height = (count) => `${Math.ceil((100 * count) / most)}%`;
    const total = make("i", "k-all");
    const errors = make("i", "k-errors");
    total.style.height = height(lines);
    errors.style.height = height(bad);
    column.append(total, errors);
    place.append(column);
  }
  const words = { lines: number(all), since: title(Date.parse(found.since)), until: title(Date.parse(found.until)) };
  const summary = _("%(lines)s lines from %(since)s to %(until)s", words);
  const hatched = _("What is hatched was not counted: narrow the search.");
  document.getElementById("log-summary").textContent = found.countedSince > found.since ? `${summary}. ${hatched}` : summary;
}
