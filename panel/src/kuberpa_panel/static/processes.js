// The processes of the robot's machine, looked at every few seconds while somebody looks.
import { ask } from "./socket.js";
import { _, clock, ngettext, number } from "./words.js";

const EVERY_MS = 3000;
const box = document.getElementById("processes");
if (box) start();

function start() {
  const body = box.querySelector("tbody");
  const words = box.querySelector("[data-words]");
  const find = box.querySelector("[data-find]");
  const dialog = document.getElementById("dialog-process");
  let rows = [];
  let chosen = null;

  async function look() {
    if (!document.hidden && !dialog?.open) {
      try {
        const found = await ask(`${box.dataset.robot}/processes`);
        rows = found.processes;
        words.textContent = ngettext("%(num)s process", "%(num)s processes", rows.length) + (found.more ? _(", and %(more)s more", { more: found.more }) : "");
        show();
      } catch (error) {
        words.textContent = error.message;
      }
    }
    setTimeout(look, EVERY_MS);
  }

  function show() {
    const wanted = find.value.toLowerCase();
    const fitting = rows.filter((row) => `${row.pid} ${row.user} ${row.command} ${row.name}`.toLowerCase().includes(wanted));
    body.replaceChildren(...fitting.slice(0, 500).map(line));
  }

  function line(row) {
    const tr = document.createElement("tr");
    const started = new Date(row.started * 1000);
    const memory = number(row.memory / 1048576, 1);
    const cells = [row.pid, row.user, row.state, `${memory} MiB`, _("%(seconds)s s", { seconds: number(row.cpuSeconds, 1) }), clock(started), row.command || row.name];
    for (const [at, text] of cells.entries()) {
      const cell = document.createElement(at === 0 ? "th" : "td");
      cell.textContent = text;
      if ([0, 3, 4].includes(at)) cell.className = "k-num";
      if (at === 6) cell.className = "k-mono k-command";
      tr.append(cell);
    }
    const last = document.createElement("td");
    if (dialog) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "btn btn-sm btn-outline-danger";
      button.textContent = _("Kill");
      button.setAttribute("aria-label", _("Kill process %(pid)s", { pid: row.pid }));
      button.addEventListener("click", () => {
        chosen = row;
        dialog.querySelector("[data-what]").textContent = `${row.pid}: ${row.command || row.name}`;
        dialog.showModal();
      });
      last.append(button);
    }
    tr.append(last);
    return tr;
  }

  find.addEventListener("input", show);
  dialog?.querySelector("[data-kill]").addEventListener("click", async () => {
    dialog.close();
    try {
      const address = `${box.dataset.robot}/processes/${chosen.pid}?started=${chosen.started}`;
      const { killed, survivors } = await ask(address, { method: "DELETE", csrf: box.dataset.csrf });
      words.textContent = survivors.length ? _("Still alive: %(pids)s", { pids: survivors.join(", ") }) : _("Killed: %(pids)s", { pids: killed.join(", ") });
    } catch (error) {
      words.textContent = error.message;
    }
  });
  look();
}
