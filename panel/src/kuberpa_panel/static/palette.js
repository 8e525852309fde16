// The command palette (Ctrl-K) and the keyboard. Keys are told by where they are (event.code): with a Russian layout
// event.key is another letter. No bare key changes anything, and bare keys can be switched off.
import { _ } from "./words.js";

const OFF = "kuberpa_keys_off";
const WAIT_MS = 80;
const SEQUENCE_MS = 1500;
const GO = {
  KeyO: "/", KeyR: "/robots", KeyA: "/activities", KeyQ: "/queues", KeyS: "/schedules", KeyD: "/debug",
  KeyG: "/gsettings", KeyU: "/audit", KeyN: "/agenda", KeyY: "/system",
};

const palette = document.getElementById("palette");
const help = document.getElementById("keys-help");
const GROUPS = {
  page: _("Page"), action: _("Action"), robot: _("Robot"), fleet: _("Fleet"), host: _("Host"), queue: _("Queue"),
  item: _("Work item"), schedule: _("Schedule"), calendar: _("Calendar"), activity: _("Activity"),
};

if (palette) start();

function start() {
  const input = palette.querySelector("input");
  const list = palette.querySelector("[role=listbox]");
  const status = palette.querySelector("[data-said]");
  let found = [];
  let at = 0;
  let asked = 0;
  let timer = 0;

  for (const opener of document.querySelectorAll("[data-palette]")) opener.addEventListener("click", () => open());

  function open(text = "") {
    if (!palette.open) palette.showModal();
    input.value = text;
    input.focus();
    ask();
  }

  async function ask() {
    const number = ++asked;
    const answer = await fetch(`/api/v1/search?q=${encodeURIComponent(input.value)}`, { headers: { Accept: "application/json" } });
    if (number !== asked) return;
    if (!answer.ok) {
      status.textContent = answer.status === 401 ? _("Your session has ended. Sign in again.") : _("The panel does not answer now.");
      return;
    }
    const results = await answer.json();
    if (number !== asked) return;
    found = results;
    at = 0;
    show();
  }

  function show() {
    list.replaceChildren(...found.map(option));
    status.textContent = found.length ? "" : _("Nothing is called that.");
    mark();
  }

  function option(each, index) {
    const row = document.createElement("li");
    row.setAttribute("role", "option");
    row.id = `found-${index}`;
    const title = document.createElement("b");
    title.textContent = each.title;
    const sub = document.createElement("span");
    sub.textContent = [each.sub, each.state].filter(Boolean).join(" · ");
    const group = document.createElement("span");
    group.className = "k-found-group";
    group.textContent = GROUPS[each.group] ?? each.group;
    row.append(title, sub, group);
    row.addEventListener("click", () => go(index));
    row.addEventListener("pointermove", () => {
      if (at !== index) {
        at = index;
        mark();
      }
    });
    return row;
  }

  function mark() {
    [...list.children].forEach((row, index) => row.setAttribute("aria-selected", String(index === at)));
    if (found.length) input.setAttribute("aria-activedescendant", `found-${at}`);
    else input.removeAttribute("aria-activedescendant");
    list.children[at]?.scrollIntoView({ block: "nearest" });
  }

  function go(index) {
    const each = found[index];
    if (!each) return;
    palette.close();
    if (!each.post) {
      location.assign(each.href);
      return;
    }
    const form = document.createElement("form");
    form.method = "post";
    form.action = each.post;
    const token = document.createElement("input");
    token.type = "hidden";
    token.name = "csrf";
    token.value = palette.dataset.csrf;
    form.append(token);
    document.body.append(form);
    form.requestSubmit();
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, WAIT_MS);
  });
  input.addEventListener("keydown", async (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.code];
    if (step && found.length) {
      event.preventDefault();
      at = (at + step + found.length) % found.length;
      mark();
    } else if (event.code === "Enter" || event.code === "NumpadEnter") {
      event.preventDefault();
      clearTimeout(timer);
      await ask(); // whoever types fast means what was typed, not what was found before
      go(at);
    }
  });

  addEventListener("keydown", (event) => {
    if (event.code === "KeyK" && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey) {
      event.preventDefault();
      if (palette.open) palette.close();
      else open();
    }
  });
}

// ---- bare keys -----------------------------------------------------------------------------------------------------
const off = document.getElementById("keys-off");
const disabled = () => localStorage.getItem(OFF) === "yes";
if (off) {
  off.checked = disabled();
  off.addEventListener("change", () => localStorage.setItem(OFF, off.checked ? "yes" : "no"));
}

let gone = 0;
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || disabled()) return;
  if (event.target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable], dialog, .xterm, [data-keys]")) return;
  if (event.key === "?" || (event.code === "Slash" && event.shiftKey)) return done(event, () => help?.showModal());
  if (event.shiftKey) return;
  if (Date.now() - gone < SEQUENCE_MS) {
    gone = 0;
    const path = GO[event.code];
    if (path) done(event, () => location.assign(path));
    return;
  }
  if (event.code === "KeyG") gone = Date.now();
  else if (event.code === "Slash") {
    const find = document.querySelector("[data-find]");
    if (find) done(event, () => find.focus());
  } else if (event.code === "KeyJ") done(event, () => step(1));
  else if (event.code === "KeyK") done(event, () => step(-1));
  else if (event.code === "KeyX") {
    const box = here()?.querySelector("input[type=checkbox]");
    if (box) done(event, () => box.click());
  }
});

function done(event, act) {
  event.preventDefault();
  act();
}

const rows = () => [...document.querySelectorAll(".k-table tbody tr, .k-wall > *")].filter((row) => linkOf(row));
const linkOf = (row) => (row.matches("a[href]") ? row : row.querySelector("th a[href], a[href]"));
const here = () => document.activeElement?.closest(".k-table tbody tr, .k-wall > *");

// the focus is on the row's own link, so that Enter opens it as it opens any link
function step(by) {
  const all = rows();
  if (!all.length) return;
  const index = all.indexOf(here());
  const next = index < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(index + by, 0), all.length - 1);
  linkOf(all[next]).focus();
  all[next].scrollIntoView({ block: "nearest" });
}
