// A WebSocket of a robot: says in the page how it is, and tries again when it is lost, not when it was refused.
import { _ } from "./words.js";

const FIRST_MS = 500;
const LONGEST_MS = 8000;
// what agents and the panel close with
const KNOWN = {
  "the shell has ended": _("the shell has ended"),
  "the terminal was opened elsewhere": _("the terminal was opened elsewhere"),
  "the robot's agent is not connected": _("the robot's agent is not connected"),
};
const REFUSED = new Set([4401, 4403]);

export function connect(address, { opened, text, data, lost, query = () => "" }) {
  let socket = null;
  let wait = FIRST_MS;
  let timer = 0;
  let over = false;

  const open = () => {
    const url = new URL(address + query(), location.href);
    url.protocol = url.protocol.replace("http", "ws");
    socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    let welcome = false;
    socket.addEventListener("open", () => {
      welcome = true;
      opened?.();
    });
    socket.addEventListener("message", (event) => {
      wait = FIRST_MS;
      if (typeof event.data === "string") text?.(JSON.parse(event.data));
      else data?.(event.data);
    });
    socket.addEventListener("close", (event) => {
      if (over) return;
      const refused = REFUSED.has(event.code);
      const again = !refused && lost({ reason: event.reason, refused, welcome }) !== false;
      if (refused) lost({ reason: event.reason, refused, welcome });
      if (!again) return;
      timer = setTimeout(open, wait);
      wait = Math.min(wait * 2, LONGEST_MS);
    });
  };
  open();
  return {
    send: (message) => socket.readyState === WebSocket.OPEN && socket.send(message),
    tell: (message) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message)),
    close: (reason = "") => {
      over = true;
      clearTimeout(timer);
      socket.close(1000, reason);
    },
  };
}

// A request to the API as this page's user. Throws an Error whose message is for people.
export async function ask(address, { method = "GET", csrf = "", body } = {}) {
  const answer = await fetch(address, { method, body, headers: method === "GET" ? {} : { "X-CSRF-Token": csrf } });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.detail ?? _("The panel answers %(status)s.", { status: answer.status }));
  return said;
}

export function sentence(reason) {
  if (!reason) return _("The connection was lost.");
  const said = KNOWN[reason] ?? reason;
  return `${said[0].toUpperCase()}${said.slice(1)}${/[.!?]$/.test(said) ? "" : "."}`;
}
