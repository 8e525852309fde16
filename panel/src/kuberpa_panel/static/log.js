// The log of one activity: lines as text, never as markup, in blocks that the browser skips while they are off screen.
// Follows only at the bottom; scrolling up freezes it, and a bar says how much is new. Gaps are rows of their own.
import { _, ngettext } from "./words.js";

const BLOCK = 200;
const NEAR = 40;
const EARLIER = 1000;
const BY_HAND_MS = 1000;

const view = document.getElementById("log");
const live = document.getElementById("live");
if (view && live) start();

function start() {
  const bar = document.getElementById("log-frozen");
  const follow = document.getElementById("log-follow");
  const [firstToken, firstSeq] = view.dataset.place.split(":").map(Number);
  const wanted = new URLSearchParams(location.search).get("line");
  const tools = { times: document.getElementById("log-times"), wrap: document.getElementById("log-wrap") };
  const state = { block: null, token: firstToken, seq: firstSeq, missed: 0, ended: false, empty: true };

  for (const [name, box] of Object.entries(tools)) {
    const set = () => view.classList.toggle(`k-${name}`, box.checked);
    box.addEventListener("change", set);
    set();
  }
  if (wanted) follow.checked = false;
  if (firstSeq > 0) view.append(earlier(firstSeq));
  placeholder(_("Waiting for output…"));

  live.addEventListener("log", (event) => append(JSON.parse(event.detail.data)));
  bar.querySelector("button").addEventListener("click", () => {
    follow.checked = true;
    thaw();
  });
  follow.addEventListener("change", () => (follow.checked ? thaw() : freeze()));
  // only a person's scrolling freezes: blocks that get their real height scroll as well
  let touchedAt = 0;
  for (const name of ["wheel", "touchmove", "pointerdown", "keydown"]) {
    view.addEventListener(name, () => (touchedAt = Date.now()), { passive: true });
  }
  view.addEventListener("scroll", () => {
    const atEnd = view.scrollHeight - view.scrollTop - view.clientHeight < NEAR;
    const byHand = Date.now() - touchedAt < BY_HAND_MS;
    if (atEnd && byHand && !follow.checked) {
      follow.checked = true;
      thaw();
    } else if (!atEnd && follow.checked) {
      if (!byHand) return toEnd();
      follow.checked = false;
      freeze();
    }
  });

  // blocks off screen have an estimated height: when the real one turns out, the end has moved
  const settled = new ResizeObserver(() => follow.checked && toEnd());

  function append(records) {
    let lines = 0;
    for (const record of records) {
      if (record.type === "end") {
        finish(record);
        continue;
      }
      if (record.token < state.token || (record.token === state.token && (record.seq ?? record.last) <= state.seq)) continue;
      if (record.token !== state.token && record.attempt > 1) put(divider(_("Attempt %(attempt)s", { attempt: record.attempt })));
      state.token = record.token;
      state.seq = record.seq ?? record.last;
      put(record.type === "gap" ? gap(record) : row(record));
      lines += 1;
    }
    if (follow.checked) toEnd();
    else if (lines) {
      state.missed += lines;
      freeze();
    }
    if (wanted) reveal(wanted);
  }

  function put(element) {
    if (state.empty) {
      view.querySelector(".k-log-empty")?.remove();
      state.empty = false;
    }
    if (!state.block || state.block.childElementCount >= BLOCK) {
      state.block = document.createElement("div");
      state.block.className = "k-log-block";
      view.append(state.block);
      settled.observe(state.block);
    }
    state.block.append(element);
  }

  function finish(record) {
    if (state.ended) return;
    state.ended = true;
    if (state.empty) view.querySelector(".k-log-empty").textContent = _("It wrote nothing.");
    else put(divider(ending(record)));
  }

  function freeze() {
    bar.hidden = state.missed === 0;
    bar.querySelector("span").textContent = ngettext("Frozen: %(num)s new line", "Frozen: %(num)s new lines", state.missed);
  }

  function thaw() {
    state.missed = 0;
    bar.hidden = true;
    toEnd();
  }

  function toEnd() {
    view.scrollTop = view.scrollHeight;
  }

  function placeholder(text) {
    const empty = document.createElement("p");
    empty.className = "k-log-empty";
    empty.textContent = text;
    view.append(empty);
  }

  function earlier(before) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn btn-sm k-log-earlier";
    button.textContent = _("Earlier lines");
    button.addEventListener("click", async () => {
      const after = Math.max(0, before - EARLIER);
      const attempt = view.querySelector("[data-attempt]")?.dataset.attempt ?? 0;
      const answer = await fetch(`${view.dataset.api}?attempt=${attempt}&after=${after}&limit=${before - after}`);
      if (!answer.ok) return;
      const page = await answer.json();
      const block = document.createElement("div");
      block.className = "k-log-block";
      for (const line of page.lines) {
        if (line.seq <= before) block.append(row({ ...line, token: page.token, attempt: page.attempt }));
      }
      const height = view.scrollHeight;
      button.replaceWith(...(after > 0 ? [earlier(after)] : []), block);
      view.scrollTop += view.scrollHeight - height;
    });
    return button;
  }
}

function row(record) {
  const line = document.createElement("div");
  line.className = `k-line k-${record.stream} k-level-${record.level.toLowerCase()}`;
  line.id = `L${record.token}-${record.seq}`;
  line.dataset.attempt = record.attempt;
  const link = document.createElement("a");
  link.className = "k-seq";
  link.href = `${view.dataset.page ?? ""}?line=${record.token}:${record.seq}#${line.id}`;
  link.textContent = record.seq;
  link.setAttribute("aria-label", _("Link to line %(seq)s", { seq: record.seq }));
  const time = document.createElement("time");
  time.dateTime = record.time;
  time.textContent = clock(record.time);
  const words = document.createElement("span");
  words.className = "k-words";
  words.textContent = record.text;
  line.append(link, time, words);
  if (record.level !== "INFO") {
    const level = document.createElement("span");
    level.className = "k-level";
    level.textContent = record.level;
    words.before(level);
  }
  return line;
}

function gap(record) {
  const count = record.last - record.first + 1;
  const { first, last, reason } = record;
  const words = ngettext("%(num)s line missing (%(first)s): %(reason)s", "%(num)s lines missing (%(first)s to %(last)s): %(reason)s", count, { first, last, reason });
  return divider(words, "k-gap");
}

function ending({ phase, exitCode }) {
  return exitCode == null ? phase : _("%(phase)s, exit code %(code)s", { phase, code: exitCode });
}

function divider(text, kind = "k-divider") {
  const line = document.createElement("div");
  line.className = `k-line ${kind}`;
  line.textContent = text;
  return line;
}

function reveal(wanted) {
  const line = document.getElementById(`L${wanted.replace(":", "-")}`);
  if (!line || line.classList.contains("k-wanted")) return;
  line.classList.add("k-wanted");
  line.scrollIntoView({ block: "center" });
}

function clock(iso) {
  const at = new Date(iso);
  const pad = (number, size = 2) => String(number).padStart(size, "0");
  return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}.${pad(at.getMilliseconds(), 3)}`;
}
