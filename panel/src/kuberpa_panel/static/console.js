// A Python console of the robot: pieces of source go there, what they write comes back as text.
import { make } from "./dom.js";
import { connect, sentence } from "./socket.js";
import { _ } from "./words.js";

const LINES = 5000;
const NEAR = 40;
const box = document.getElementById("console");

if (box) start();

function start() {
  const output = document.getElementById("console-output");
  const source = document.getElementById("console-source");
  const words = document.getElementById("console-words");
  const interrupt = document.getElementById("console-interrupt");
  const earlier = [];
  let at = 0;
  let ident = "";
  let open = null;
  let busy = false;
  let sent = "";

  const socket = connect(`${box.dataset.robot}/console`, {
    query: () => (ident ? `?console=${ident}` : ""),
    text: hear,
    lost: ({ reason, refused }) => {
      words.textContent = sentence(reason);
      source.disabled = true;
      interrupt.disabled = true;
      // what only the way there lost is found again by its id
      return !refused && (!reason || /connect|replica/.test(reason));
    },
  });

  function hear(news) {
    if (news.console) {
      if (ident && ident !== news.console) write(_("The former process is gone; this is a new one."), "agent", false);
      if (ident === news.console) ready();
      ident = news.console;
      words.textContent = _("starting");
    }
    if (news.ready) {
      words.textContent = `Python ${news.ready}`;
      ready();
    }
    if (news.text !== undefined) write(news.text, news.stream, news.continues);
    if (news.done) {
      open = null;
      if (news.more) {
        source.value = `${sent}\n`;
        fit();
      } else words.textContent = _("done in %(seconds)s s", { seconds: news.seconds.toFixed(3) });
      ready();
    }
    if (news.exit !== undefined) write(_("It ended with exit code %(code)s.", { code: news.exit }), "agent", false);
  }

  function ready() {
    busy = false;
    box.dataset.open = ident;
    source.disabled = false;
    interrupt.disabled = true;
    if (document.activeElement === document.body || document.activeElement === interrupt) source.focus();
  }

  function write(text, stream, continues) {
    const follow = output.scrollHeight - output.scrollTop - output.clientHeight < NEAR;
    // a line may come in parts, as long as nothing else is written in between
    if (open?.dataset.stream === stream) open.textContent += text;
    else {
      open = make("div", `k-out k-out-${stream}`, text);
      open.dataset.stream = stream;
      output.append(open);
    }
    if (!continues) open = null;
    while (output.childElementCount > LINES) output.firstElementChild.remove();
    if (follow) output.scrollTop = output.scrollHeight;
  }

  function run() {
    if (busy || source.disabled || !source.value.trim()) return;
    sent = source.value;
    if (socket.tell({ run: sent }) === false) return; // not connected now
    sent.split("\n").forEach((line, index) => write(`${index ? "..." : ">>>"} ${line}`, "source", false));
    output.scrollTop = output.scrollHeight;
    if (earlier.at(-1) !== sent) earlier.push(sent);
    at = earlier.length;
    source.value = "";
    fit();
    busy = true;
    interrupt.disabled = false;
    words.textContent = _("running");
  }

  const fit = () => (source.rows = Math.min(20, source.value.split("\n").length));

  source.addEventListener("input", fit);
  source.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const lines = source.value.split("\n");
    const atEnd = source.selectionEnd === source.value.length;
    if (event.code === "Enter" && !event.shiftKey) {
      if (event.ctrlKey || event.metaKey || lines.length === 1 || (atEnd && lines.at(-1).trim() === "")) {
        event.preventDefault();
        run();
      }
    } else if (event.code === "ArrowUp" && lines.length === 1 && at > 0) recall(event, at - 1);
    else if (event.code === "ArrowDown" && lines.length === 1 && at < earlier.length) recall(event, at + 1);
    else if (event.code === "KeyC" && event.ctrlKey && busy && source.selectionStart === source.selectionEnd) socket.tell({ interrupt: true });
  });

  function recall(event, index) {
    event.preventDefault();
    at = index;
    source.value = earlier[at] ?? "";
    fit();
  }

  // a page that is left comes back with a console of its own
  addEventListener("pagehide", () => socket.close("closed"));
  interrupt.addEventListener("click", () => socket.tell({ interrupt: true }));
  document.getElementById("console-close").addEventListener("click", () => {
    socket.close("closed");
    source.disabled = true;
    interrupt.disabled = true;
    words.textContent = _("Closed. Reload the page for a new one.");
  });
}
