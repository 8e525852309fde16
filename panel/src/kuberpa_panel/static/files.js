// The robot's files below the folders that its settings allow.
import { ask } from "./socket.js";
import { _, language, ngettext, number } from "./words.js";

const box = document.getElementById("files");
if (box) start();

function start() {
  const body = box.querySelector("tbody");
  const words = box.querySelector("[data-words]");
  const where = box.querySelector("[data-where]");
  const upload = box.querySelector("input[type=file]");
  const bar = box.querySelector("progress");
  const dialog = document.getElementById("dialog-file");
  const state = { path: "", roots: [], chosen: "" };
  const api = (path, content = "") => `${box.dataset.robot}/files${content}?path=${encodeURIComponent(path)}`;
  const slash = () => (state.roots[0]?.includes("\\") ? "\\" : "/");
  const below = (name) => `${state.path.replace(/[\\/]$/, "")}${slash()}${name}`;

  async function open(path) {
    try {
      if (!path) {
        state.path = "";
        return list(state.roots.map((root) => ({ name: root, kind: "folder", path: root })), 0);
      }
      const found = await ask(api(path));
      state.path = found.path;
      list(found.entries.map((entry) => ({ ...entry, path: below(entry.name) })), found.more);
    } catch (error) {
      words.textContent = error.message;
    }
  }

  function list(entries, more) {
    where.textContent = state.path || _("Folders that may be reached");
    words.textContent = ngettext("%(num)s entry", "%(num)s entries", entries.length) + (more ? _(", and %(more)s more", { more }) : "");
    if (upload) upload.disabled = !state.path;
    const rows = entries.map(row);
    if (state.path) rows.unshift(row({ name: "..", kind: "folder", path: state.roots.includes(state.path) ? "" : state.path.replace(/[\\/][^\\/]*$/, "") || "/" }));
    body.replaceChildren(...rows);
  }

  function row(entry) {
    const tr = document.createElement("tr");
    const name = document.createElement("th");
    name.scope = "row";
    if (entry.kind === "folder") {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "k-plain";
      button.textContent = entry.name;
      button.addEventListener("click", () => open(entry.path));
      name.append(button);
    } else if (entry.kind === "file") {
      const link = document.createElement("a");
      link.href = api(entry.path, "/content");
      link.download = entry.name;
      link.textContent = entry.name;
      name.append(link);
    } else name.textContent = entry.name;
    const size = document.createElement("td");
    size.className = "k-num";
    size.textContent = entry.kind === "file" ? bytes(entry.size) : entry.kind === "folder" ? _("folder") : entry.kind;
    const at = document.createElement("td");
    at.textContent = entry.modified ? new Date(entry.modified * 1000).toLocaleString(language, { hourCycle: "h23" }) : "";
    const last = document.createElement("td");
    if (dialog && entry.name !== ".." && state.path) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "btn btn-sm";
      button.textContent = _("Delete");
      button.setAttribute("aria-label", _("Delete %(name)s", { name: entry.name }));
      button.addEventListener("click", () => {
        state.chosen = entry.path;
        dialog.querySelector("[data-what]").textContent = entry.path;
        dialog.showModal();
      });
      last.append(button);
    }
    tr.append(name, size, at, last);
    return tr;
  }

  dialog?.querySelector("[data-delete]").addEventListener("click", async () => {
    dialog.close();
    try {
      await ask(api(state.chosen), { method: "DELETE", csrf: box.dataset.csrf });
      await open(state.path);
    } catch (error) {
      words.textContent = error.message;
    }
  });

  upload?.addEventListener("change", async () => {
    for (const file of upload.files) await put(file);
    upload.value = "";
    bar.hidden = true;
    await open(state.path);
  });

  function put(file) {
    return new Promise((resolve) => {
      const request = new XMLHttpRequest();
      request.open("PUT", api(below(file.name), "/content"));
      request.setRequestHeader("X-CSRF-Token", box.dataset.csrf);
      request.upload.addEventListener("progress", (event) => {
        bar.hidden = false;
        bar.max = event.total || 1;
        bar.value = event.loaded;
      });
      request.addEventListener("loadend", () => {
        const said = request.status === 200 ? _("%(name)s is there.", { name: file.name }) : problem(request);
        words.textContent = said;
        resolve();
      });
      request.send(file);
    });
  }

  ask(`${box.dataset.robot}/files/roots`).then(
    (found) => {
      state.roots = found.roots;
      open(state.roots.length === 1 ? state.roots[0] : "");
    },
    (error) => (words.textContent = error.message),
  );
}

function problem(request) {
  try {
    return JSON.parse(request.responseText).detail;
  } catch {
    return _("The panel answers %(status)s.", { status: request.status });
  }
}

function bytes(size) {
  const units = ["B", "KiB", "MiB", "GiB"];
  const step = Math.min(units.length - 1, size ? Math.floor(Math.log2(size) / 10) : 0);
  return `${number(size / 1024 ** step, step ? 1 : 0)} ${units[step]}`;
}
