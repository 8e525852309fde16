// Lines of a log: text, never markup, in blocks that the browser skips while they are off screen, so that find and
// selection work over all of them. Follows only at the bottom; scrolling up freezes it, and a bar says how much is new.
import { _, ngettext } from "./words.js";

const BLOCK = 200;
const MOST_BLOCKS = 250;
const NEAR = 40;
const BY_HAND_MS = 1000;

export class LogView {
  constructor(view) {
    this.view = view;
    this.bar = document.getElementById("log-frozen");
    this.follow = document.getElementById("log-follow");
    this.block = null;
    this.missed = 0;
    this.empty = true;
    for (const name of ["times", "wrap"]) {
      const box = document.getElementById(`log-${name}`);
      const set = () => view.classList.toggle(`k-${name}`, box.checked);
      box.addEventListener("change", set);
      set();
    }
    // blocks off screen have an estimated height: when the real one turns out, the end has moved
    this.settled = new ResizeObserver(() => this.follow.checked && this.toEnd());
    this.#listen();
  }

  #listen() {
    const { view, bar, follow } = this;
    bar.querySelector("button").addEventListener("click", () => {
      follow.checked = true;
      this.thaw();
    });
    follow.addEventListener("change", () => (follow.checked ? this.thaw() : this.freeze()));
    // only a person's scrolling freezes: blocks that get their real height scroll as well
    let touchedAt = 0;
    for (const name of ["wheel", "touchmove", "pointerdown", "keydown"]) {
      view.addEventListener(name, () => (touchedAt = Date.now()), { passive: true });
    }
    view.addEventListener("scroll", () => {
      const atEnd = view.scrollHeight - view.scrollTop - view.clientHeight < NEAR;
      const byHand = Date.now() - touchedAt < BY_HAND_MS;
      if (atEnd && byHand && !follow.checked && this.atHead()) {
        follow.checked = true;
        this.thaw();
      } else if (!atEnd && follow.checked) {
        if (!byHand) return this.toEnd();
        follow.checked = false;
        this.freeze();
      }
    });
  }

  atHead() {
    return true;
  }

  put(element) {
    if (this.empty) {
      this.view.querySelector(".k-log-empty")?.remove();
      this.empty = false;
    }
    if (!this.block || this.block.childElementCount >= BLOCK) {
      this.block = newBlock();
      this.view.append(this.block);
      this.settled.observe(this.block);
      this.#shorten();
    }
    this.block.append(element);
  }

  // a page that is left open for days must not grow for days: while it follows, the oldest lines go
  #shorten() {
    const blocks = this.view.getElementsByClassName("k-log-block");
    while (this.follow.checked && blocks.length > MOST_BLOCKS) blocks[0].remove();
  }

  added(lines) {
    if (this.follow.checked) this.toEnd();
    else if (lines) {
      this.missed += lines;
      this.freeze();
    }
  }

  freeze() {
    this.bar.hidden = this.missed === 0;
    this.bar.querySelector("span").textContent = ngettext("Frozen: %(num)s new line", "Frozen: %(num)s new lines", this.missed);
  }

  thaw() {
    this.missed = 0;
    this.bar.hidden = true;
    this.toEnd();
  }

  toEnd() {
    this.view.scrollTop = this.view.scrollHeight;
  }

  placeholder(text) {
    this.view.querySelector(".k-log-empty")?.remove();
    const empty = document.createElement("p");
    empty.className = "k-log-empty";
    empty.textContent = text;
    this.view.append(empty);
  }

  earlier(load) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn btn-sm k-log-earlier";
    button.textContent = _("Earlier lines");
    button.addEventListener("click", async () => {
      button.disabled = true;
      const found = await load();
      button.disabled = false;
      if (!found) return;
      const height = this.view.scrollHeight;
      const block = newBlock();
      block.append(...found.rows);
      button.replaceWith(...(found.more ? [this.earlier(found.more)] : []), block);
      this.view.scrollTop += this.view.scrollHeight - height;
    });
    return button;
  }
}

function newBlock() {
  const block = document.createElement("div");
  block.className = "k-log-block";
  return block;
}

export function lineRow(record, { id, href, label }) {
  const line = document.createElement("div");
  line.className = `k-line k-${record.stream} k-level-${record.level.toLowerCase()}`;
  line.id = id;
  const link = document.createElement("a");
  link.className = "k-seq";
  link.href = href;
  link.textContent = label;
  link.setAttribute("aria-label", _("Link to line %(seq)s", { seq: label }));
  const time = document.createElement("time");
  time.dateTime = record.time;
  time.textContent = clock(record.time);
  const words = document.createElement("span");
  words.className = "k-words";
  words.textContent = harmless(record.text);
  line.append(link, time, words);
  if (record.level !== "INFO") {
    const level = document.createElement("span");
    level.className = "k-level";
    level.textContent = record.level;
    words.before(level);
  }
  return line;
}

export function gapRow(first, last, reason) {
  const count = last - first + 1;
  const text = ngettext("%(num)s line missing (%(first)s): %(reason)s", "%(num)s lines missing (%(first)s to %(last)s): %(reason)s", count, { first, last, reason });
  return divider(text, "k-gap");
}

export function divider(text, kind = "k-divider") {
  const line = document.createElement("div");
  line.className = `k-line ${kind}`;
  line.textContent = text;
  return line;
}

// Colours of terminals are left out; other control characters, and those that turn the direction of writing, are shown
// as pictures, so that no line can look like another one.
export function harmless(text) {
  return text
    .replace(/\u001b\[[0-9;]*m/g, "")
    .replace(/[\u0000-\u0008\u000a-\u001f\u007f]/g, (c) => (c === "\u007f" ? "\u2421" : String.fromCharCode(0x2400 + c.charCodeAt(0))))
    .replace(/[\u0080-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (c) => `\u27e8U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}\u27e9`);
}

export function clock(iso) {
  const at = new Date(iso);
  const pad = (number, size = 2) => String(number).padStart(size, "0");
  return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}.${pad(at.getMilliseconds(), 3)}`;
}
