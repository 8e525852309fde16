// A shell of the robot. Output is shown no faster than it can be drawn: what was drawn is told, and no more comes before.
import { FitAddon } from "../vendor/xterm-6.0.0/addon-fit.mjs";
import { Terminal } from "../vendor/xterm-6.0.0/xterm.mjs";
import { connect, sentence } from "./socket.js";
import { _ } from "./words.js";

const TOLD_BYTES = 16 * 1024;
const box = document.getElementById("terminal");

if (box) start();

// xterm makes style elements, which this page's policy takes only with its nonce
function stamp(nonce) {
  const make = document.createElement.bind(document);
  document.createElement = (name, options) => {
    const element = make(name, options);
    if (name.toLowerCase() === "style") element.nonce = nonce;
    return element;
  };
}

function start() {
  stamp(box.dataset.nonce);
  const words = document.getElementById("terminal-words");
  const terminal = new Terminal({ cursorBlink: true, fontSize: 13, scrollback: 5000, screenReaderMode: true, theme: { background: "#10161f", foreground: "#dbe3ee" } });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(box);
  fit.fit();
  let ident = "";
  let shown = 0;
  const encoder = new TextEncoder();

  const socket = connect(`${box.dataset.robot}/terminal`, {
    query: () => `?columns=${terminal.cols}&rows=${terminal.rows}${ident ? `&terminal=${ident}` : ""}`,
    opened: () => (words.textContent = _("connected")),
    text: (news) => {
      if (news.terminal) {
        if (ident) terminal.reset();
        if (ident && ident !== news.terminal) terminal.writeln(_("The former shell is gone; this is a new one."));
        ident = news.terminal;
        box.dataset.open = ident;
      }
      if (news.exit !== undefined) words.textContent = _("ended with exit code %(code)s", { code: news.exit });
    },
    data: (buffer) => {
      terminal.write(new Uint8Array(buffer), () => {
        shown += buffer.byteLength;
        if (shown >= TOLD_BYTES || !terminal.buffer.active.length) tellShown();
        else queueMicrotask(tellShown);
      });
    },
    lost: ({ reason, refused }) => {
      words.textContent = sentence(reason);
      if (refused || reason === "the shell has ended" || reason === "the terminal was opened elsewhere") {
        terminal.options.disableStdin = true;
        return false;
      }
      return true;
    },
  });

  function tellShown() {
    if (shown) socket.tell({ shown });
    shown = 0;
  }

  terminal.onData((text) => socket.send(encoder.encode(text)));
  terminal.onBinary((text) => socket.send(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
  terminal.onResize(({ cols, rows }) => socket.tell({ size: [cols, rows] }));
  new ResizeObserver(() => fit.fit()).observe(box);
  document.getElementById("terminal-close").addEventListener("click", () => {
    socket.close("closed");
    terminal.options.disableStdin = true;
    words.textContent = _("Closed. Reload the page for a new one.");
  });
  terminal.focus();
}
