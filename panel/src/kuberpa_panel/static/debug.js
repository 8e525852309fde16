// The Debug page: one input as a form or as JSON, Ctrl-Enter, a link that holds it.
import { schemaForm } from "./schema_form.js";
import { _ } from "./words.js";

const LINK_MAX = 6000;
const form = document.getElementById("debug-form");

if (form) start();

function start() {
  const area = document.getElementById("input");
  const box = document.getElementById("fields");
  const place = document.getElementById("editor");
  const note = document.getElementById("input-note");
  const schema = JSON.parse(box.dataset.schema || "{}");
  const modes = [...form.querySelectorAll("[data-mode]")];
  let editor = null;
  let missing = () => null;

  const parse = () => {
    if (!area.value.trim()) return {};
    const value = JSON.parse(area.value);
    if (!value || typeof value !== "object" || Array.isArray(value)) throw new Error(_("it is not an object with args and kwargs"));
    if (!Array.isArray(value.args ?? []) || typeof (value.kwargs ?? {}) !== "object" || Array.isArray(value.kwargs) || value.kwargs === null) {
      throw new Error(_("args is a list, and kwargs is an object"));
    }
    // a browser's numbers end at 2^53: the form would change what it cannot hold
    if (/(?<![\w."])-?\d{16,}/.test(area.value.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""'))) throw new Error(_("it has numbers that are too long for a form"));
    return value;
  };

  async function show(mode) {
    note.hidden = true;
    if (mode === "form") {
      try {
        const value = parse();
        missing = schemaForm(box, schema, value, (now) => (area.value = JSON.stringify(now, null, 2)));
      } catch (error) {
        note.textContent = _("This stays JSON: %(why)s.", { why: error.message });
        note.hidden = false;
        mode = "json";
      }
    }
    if (mode === "json") {
      missing = () => null;
      await edit();
    }
    box.hidden = mode !== "form";
    place.hidden = mode !== "json";
    for (const each of modes) each.setAttribute("aria-pressed", String(each.dataset.mode === mode));
    form.dataset.shows = mode;
  }

  async function edit() {
    if (editor) return editor.show(area.value);
    const { jsonEditor } = await import(form.dataset.editor);
    editor = jsonEditor(place, area, form.dataset.nonce);
  }

  area.hidden = true;
  for (const each of modes) each.addEventListener("click", () => show(each.dataset.mode));
  const plain = !Object.keys(schema.properties ?? {}).length && schema.additionalProperties !== false;
  show(plain || area.getAttribute("aria-invalid") ? "json" : "form");

  form.addEventListener("submit", (event) => {
    if (event.submitter?.id !== "debug-run") return;
    const first = missing();
    if (!first) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    first.focus();
  }, true);

  addEventListener("keydown", (event) => {
    if (event.code !== "Enter" || !(event.ctrlKey || event.metaKey) || !event.target.closest?.("#debug-form")) return;
    event.preventDefault();
    form.requestSubmit(document.getElementById("debug-run"));
  });

  for (const each of form.querySelectorAll("input[name=by]")) each.addEventListener("change", aim);
  function aim() {
    const by = form.querySelector("input[name=by]:checked").value;
    for (const part of form.querySelectorAll("[data-by]")) part.hidden = part.dataset.by !== by;
  }
  aim();

  const dialog = document.getElementById("debug-copy");
  for (const each of form.querySelectorAll("[data-copy-as]")) each.addEventListener("click", () => copyAs(each.dataset.copyAs));
  async function copyAs(kind) {
    const words = dialog.querySelector("pre");
    const title = dialog.querySelector("h2 span");
    title.textContent = dialog.dataset[kind];
    try {
      words.textContent = kind === "link" ? link() : await translated(kind);
    } catch (error) {
      words.textContent = error.message;
    }
    dialog.showModal();
  }

  async function translated(kind) {
    const body = new FormData(form);
    body.set("kind", kind);
    const answer = await fetch("/debug/copy", { method: "POST", body });
    if (answer.ok) return answer.text();
    throw new Error((await answer.json().catch(() => ({}))).detail ?? _("The panel answers %(status)s.", { status: answer.status }));
  }

  // what a schema calls a secret is never in an address
  function link() {
    const address = new URL("/debug", location.href);
    const data = new FormData(form);
    const by = data.get("by");
    const names = ["definition", "by", ...(by === "selector" ? ["space", "selector"] : ["target"]), "timeout", "beside", "wait"];
    for (const name of names) if (data.get(name)) address.searchParams.set(name, data.get(name));
    for (const name of ["retries", "priority"]) if (Number(data.get(name))) address.searchParams.set(name, data.get(name));
    const input = parse();
    address.searchParams.set("input", JSON.stringify(withoutSecrets(input, schema)));
    if (address.href.length > LINK_MAX) throw new Error(_("This input is too long for a link. Save it as a snippet, or share the link of a run."));
    return address.href;
  }
}

function withoutSecrets(input, schema) {
  const properties = Object.entries(schema.properties ?? {});
  const secret = ([, part]) => isSecret(part);
  const kwargs = Object.fromEntries(
    Object.entries(input.kwargs ?? {}).filter(([name]) => !isSecret(schema.properties?.[name] ?? {})),
  );
  const first = properties.findIndex(secret);
  const args = first < 0 ? (input.args ?? []) : (input.args ?? []).slice(0, first);
  return { ...(args.length ? { args } : {}), ...(Object.keys(kwargs).length ? { kwargs } : {}) };
}

// a part that holds a secret somewhere inside is left out as a whole
function isSecret(part, depth = 0) {
  if (!part || typeof part !== "object" || depth > 8) return false;
  if (part.format === "password" || part.writeOnly === true) return true;
  return Object.values(part).some((each) => isSecret(each, depth + 1));
}
