// What every page does: running times, the live indicator, dialogs, copying, finding.
import { duration } from "./duration.js";
import { _, clock } from "./words.js";

const STALE_MS = 25000;
const SETTLE_MS = 1200;

// ---- running times -------------------------------------------------------------------------------------------------
setInterval(() => {
  if (document.hidden) return;
  const now = Date.now();
  for (const each of document.querySelectorAll("time[data-since]")) {
    const words = duration((now - Date.parse(each.dateTime)) / 1000);
    if (each.textContent !== words) each.textContent = words;
  }
}, 1000);

// ---- live ----------------------------------------------------------------------------------------------------------
const live = document.getElementById("live");
if (live) {
  const word = live.querySelector(".k-live-word");
  const WORDS = { live: _("live"), reconnecting: _("reconnecting"), stale: _("stale"), ended: _("ended") };
  let heard = Date.now();
  const show = (state, detail = "") => {
    if (live.dataset.state === state && !detail) return;
    live.dataset.state = state;
    word.textContent = detail || WORDS[state];
    document.body.classList.toggle("k-stale", state === "stale" || state === "ended");
  };
  const alive = () => {
    heard = Date.now();
    if (live.dataset.state !== "ended") show("live");
  };
  live.addEventListener("htmx:sse:after:connection", alive);
  live.addEventListener("htmx:sse:before:message", alive);
  const end = (text) => {
    if (live.dataset.state === "ended") return;
    show("ended");
    notice(text);
  };
  live.addEventListener("htmx:sse:before:connection", (event) => {
    // a stream that was refused would only be refused again
    if (live.dataset.state === "ended") event.preventDefault();
    else if (event.detail.connection.attempt > 0) show("reconnecting");
  });
  live.addEventListener("htmx:sse:error", (event) => {
    const status = event.detail.status ?? 0;
    if (status === 401) end(_("Your session has ended. Sign in again to go on; nothing on this page is lost."));
    else if (status === 403 || status === 404) end(_("This page can no longer be shown to you. Reload it to see why."));
    else if (live.dataset.state !== "ended") show("reconnecting");
  });
  live.addEventListener("denied", (event) => end(event.detail.data));
  setInterval(() => {
    if (!document.hidden && live.dataset.state !== "ended" && Date.now() - heard > STALE_MS) show("stale", _("stale since %(time)s", { time: clock(new Date(heard)) }));
  }, 1000);
  live.addEventListener("htmx:sse:before:message", holdRowsUnderThePointer);
}

function notice(text) {
  const box = document.createElement("div");
  box.className = "k-problem k-notice";
  box.setAttribute("role", "alert");
  const words = document.createElement("p");
  words.textContent = text;
  const link = document.createElement("a");
  link.className = "btn";
  link.href = `/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`;
  link.textContent = _("Sign in");
  box.append(words, link);
  document.getElementById("main").prepend(box);
}

// Rows never move under the pointer: a table whose rows would be others waits until the pointer has left or rested.
let movedAt = 0;
addEventListener("pointermove", () => (movedAt = Date.now()), { passive: true });
function holdRowsUnderThePointer(event) {
  const table = document.querySelector(".k-table tbody");
  if (!table || event.detail.message.event || !event.detail.message.data.includes("<tbody")) return;
  if (!table.matches(":hover") || Date.now() - movedAt > SETTLE_MS) return;
  event.detail.waitUntil(
    new Promise((resolve) => {
      const timer = setInterval(() => {
        if (table.matches(":hover") && Date.now() - movedAt < SETTLE_MS) return;
        clearInterval(timer);
        resolve();
      }, 100);
    }),
  );
}

// ---- dialogs, copying, forms ---------------------------------------------------------------------------------------
addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  const opener = target?.closest("[data-dialog]");
  if (opener) document.getElementById(opener.dataset.dialog)?.showModal();
  if (target?.closest("[data-close]")) target.closest("dialog")?.close();
  const copier = target?.closest("[data-copy]");
  if (copier) copy(copier);
});

async function copy(button) {
  await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
  button.classList.add("k-copied");
  setTimeout(() => button.classList.remove("k-copied"), 1500);
}

addEventListener("change", (event) => {
  event.target.closest?.("form[data-submit-on-change]")?.requestSubmit();
});

// a form is sent once, however often its button is pressed
addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
});
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

// a link may open a dialog of its page; what the dialog asks is still for a person to answer
const wanted = new URLSearchParams(location.search).get("do");
if (wanted && /^[a-z]+$/.test(wanted)) document.getElementById(`dialog-${wanted}`)?.showModal();
