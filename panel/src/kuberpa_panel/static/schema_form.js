// A form made from the JSON Schema of a definition's parameters. It holds {args, kwargs}; what the schema does not name is
// kept as it was. Fields that are left alone are left out, so that the definition's own defaults hold.
import { button, make, option, same } from "./dom.js";
import { _ } from "./words.js";

const DEEP = 6;
const LONG = 120;
const INPUT_TYPES = { date: "date", time: "time", email: "email", uri: "url", password: "password" };

let numbers = 0;

export function schemaForm(box, schema, input, changed) {
  const properties = Object.entries(schema.properties ?? {});
  const required = new Set(schema.required ?? []);
  const given = { args: [...(input.args ?? [])], kwargs: { ...(input.kwargs ?? {}) } };
  const tell = () => changed(collect());
  let taken = 0;
  const fields = properties.map(([name, part], index) => {
    const start = { set: name in given.kwargs, value: given.kwargs[name], positional: part["x-kuberpa"] === "positional" };
    if (part["x-kuberpa"] === "rest") {
      start.rest = true;
      start.value = given.args.slice(index);
      start.set = start.value.length > 0;
      taken = given.args.length;
    } else if (!start.set && index < given.args.length) {
      Object.assign(start, { set: true, value: given.args[index], positional: true });
      taken = index + 1;
    }
    return { name, ...start, ...field(name, part, required.has(name), start, tell) };
  });
  const known = new Set(properties.map(([name]) => name));
  const others = Object.fromEntries(Object.entries(given.kwargs).filter(([name]) => !known.has(name)));
  const tail = given.args.slice(taken);
  box.replaceChildren(...fields.map((each) => each.element));
  let more = null;
  if (schema.additionalProperties) {
    more = mapping(schema.additionalProperties === true ? {} : schema.additionalProperties, schema, others, tell, 1);
    box.append(group(_("further arguments"), "", [more.element]));
  }

  function collect() {
    const args = [];
    const kwargs = { ...(more ? more.get() : others) };
    let inOrder = true;
    for (const each of fields) {
      const value = each.isSet() ? each.get() : undefined;
      if (value === undefined) inOrder = false;
      else if (each.rest) args.push(...value);
      else if (each.positional && inOrder) args.push(value);
      else {
        kwargs[each.name] = value;
        inOrder = false;
      }
    }
    return { args: [...args, ...tail], kwargs };
  }

  // the first field that must be filled and is not, after saying so at every one of them
  return () => fields.filter((each) => each.complain()).map((each) => each.focus)[0] ?? null;
}

function field(name, schema, isRequired, start, tell) {
  const id = `field-${++numbers}`;
  const fallback = "default" in schema ? schema.default : undefined;
  let set = start.set || isRequired;
  const row = make("div", "k-field");
  row.dataset.field = name;
  const error = make("p", "k-error");
  error.id = `${id}-error`;
  error.hidden = true;
  const back = button(_("Back to the default"), "k-plain", () => {
    set = false;
    draw(fallback);
    tell();
  });
  const touched = () => {
    set = true;
    show();
    tell();
  };
  let inner = null;
  const show = () => {
    back.hidden = isRequired || !set;
    row.classList.toggle("k-default", !set);
    error.hidden = true;
  };
  const head = make("div", "k-field-head");
  const label = make("label", "form-label", name);
  if (isRequired) {
    const star = make("span", "k-must", " *");
    star.title = _("required");
    star.setAttribute("aria-hidden", "true");
    label.append(star);
  }
  head.append(label, make("span", "k-muted k-small", words(schema, schema)), back);
  const help = make("p", "k-small k-muted k-text", schema.description ?? "");
  help.id = `${id}-help`;
  const slot = make("div");
  function draw(value) {
    inner = control(schema, schema, value, touched, { id, label: name, required: isRequired, described: schema.description ? help.id : "" }, 0);
    slot.replaceChildren(inner.element);
    if (inner.focus?.id === id) label.htmlFor = id;
    else label.removeAttribute("for");
    show();
  }
  draw(start.set ? start.value : fallback);
  row.append(head, slot, error, ...(schema.description ? [help] : []));
  return {
    element: row,
    isSet: () => set,
    get: () => inner.get(),
    get focus() {
      return inner.focus;
    },
    complain() {
      const wrong = inner.wrong?.() ?? "";
      const missing = isRequired && inner.get() === undefined;
      error.textContent = wrong || (missing ? _("Fill this in.") : "");
      error.hidden = !error.textContent;
      inner.focus?.toggleAttribute("aria-invalid", !error.hidden);
      if (!error.hidden) inner.focus?.setAttribute("aria-invalid", "true");
      return !error.hidden;
    },
  };
}

// ---- one control for each kind of schema: an element, get() (undefined: nothing), focus ------------------------------
function control(given, root, value, tell, how, depth) {
  const schema = resolve(given, root);
  if (depth > DEEP) return anything(value, tell, how);
  if ("const" in schema) return constant(schema.const, how);
  if (Array.isArray(schema.enum)) return choice(schema.enum, value, tell, how);
  const variants = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(variants) && variants.length) return union(variants, root, value, tell, how, depth);
  if (Array.isArray(schema.allOf) && schema.allOf.length === 1) return control(schema.allOf[0], root, value, tell, how, depth + 1);
  const kind = Array.isArray(schema.type) ? schema.type.find((each) => each !== "null") : schema.type;
  if (kind === "boolean") return tick(value, tell, how);
  if (kind === "integer" || kind === "number") return number(schema, kind, value, tell, how);
  if (kind === "string") return words_(schema, value, tell, how);
  if (kind === "array") return list(schema, root, value, tell, how, depth);
  if (kind === "object" && schema.properties) return structure(schema, root, value, tell, how, depth);
  if (kind === "object") return labelled(mapping(schema.additionalProperties === true || !schema.additionalProperties ? {} : schema.additionalProperties, root, value ?? {}, tell, depth + 1), how);
  if (kind === "null") return constant(null, how);
  return anything(value, tell, how);
}

function resolve(schema, root) {
  let found = schema ?? {};
  for (let step = 0; step < DEEP && typeof found.$ref === "string"; step += 1) {
    const parts = found.$ref.replace(/^#\/?/, "").split("/").filter(Boolean);
    const target = parts.reduce((at, part) => at?.[part.replaceAll("~1", "/").replaceAll("~0", "~")], root);
    if (!target) return {};
    found = target;
  }
  return found === true || typeof found !== "object" ? {} : found;
}

function named(element, how) {
  element.id = how.id;
  element.setAttribute("aria-label", how.label);
  if (how.described) element.setAttribute("aria-describedby", how.described);
  if (how.required) element.setAttribute("aria-required", "true");
  return element;
}

function constant(value, how) {
  const box = named(make("input", "form-control k-mono"), how);
  box.value = JSON.stringify(value);
  box.readOnly = true;
  return { element: box, focus: box, get: () => value };
}

function tick(value, tell, how) {
  const box = named(make("input", "form-check-input"), how);
  box.type = "checkbox";
  box.checked = value === true;
  box.addEventListener("change", tell);
  return { element: box, focus: box, get: () => box.checked };
}

function choice(options, value, tell, how) {
  const box = named(make("select", "form-select"), how);
  const at = options.findIndex((each) => same(each, value));
  if (at < 0) box.append(option("", ""));
  options.forEach((each, index) => box.append(option(String(index), typeof each === "string" ? each : JSON.stringify(each))));
  if (at >= 0) box.value = String(at);
  box.addEventListener("change", tell);
  return { element: box, focus: box, get: () => (box.value === "" ? undefined : options[Number(box.value)]) };
}

function number(schema, kind, value, tell, how) {
  const box = named(make("input", "form-control"), how);
  box.type = "number";
  box.step = kind === "integer" ? "1" : "any";
  if (schema.minimum !== undefined) box.min = schema.minimum;
  if (schema.maximum !== undefined) box.max = schema.maximum;
  box.value = value ?? "";
  box.addEventListener("input", tell);
  const read = () => (box.value === "" ? undefined : Number(box.value));
  return { element: box, focus: box, get: read, wrong: () => (box.validity.valid ? "" : box.validationMessage) };
}

function words_(schema, value, tell, how) {
  const long = (schema.maxLength ?? 0) > LONG || schema.format === "textarea" || String(value ?? "").includes("\n");
  const box = named(make(long ? "textarea" : "input", "form-control"), how);
  if (long) box.rows = 3;
  else box.type = INPUT_TYPES[schema.writeOnly ? "password" : schema.format] ?? "text";
  if (box.type === "password") box.autocomplete = "off";
  if (schema.format === "date-time") box.placeholder = "2026-11-27T09:00:00Z";
  else if (schema.format) box.placeholder = schema.format;
  if (schema.pattern) box.title = schema.pattern;
  const was = value;
  box.value = value ?? "";
  box.spellcheck = false;
  box.addEventListener("input", tell);
  // an empty text is a value where one was given, or where something else was typed before
  let typed = typeof was === "string";
  box.addEventListener("input", () => (typed = true));
  return { element: box, focus: box, get: () => (box.value === "" && !typed ? undefined : box.value) };
}

function anything(value, tell, how) {
  const box = named(make("textarea", "form-control k-mono"), how);
  box.rows = 2;
  box.spellcheck = false;
  box.placeholder = "JSON";
  box.value = value === undefined ? "" : JSON.stringify(value, null, 2);
  let kept = value;
  let trouble = "";
  box.addEventListener("input", () => {
    trouble = "";
    try {
      kept = box.value.trim() ? JSON.parse(box.value) : undefined;
    } catch (error) {
      trouble = _("Not JSON: %(why)s", { why: error.message });
    }
    tell();
  });
  return { element: box, focus: box, get: () => kept, wrong: () => trouble };
}

function union(variants, root, value, tell, how, depth) {
  const kinds = variants.map((each) => resolve(each, root));
  const solid = kinds.filter((each) => each.type !== "null");
  if (solid.length === kinds.length && solid.length === 1) return control(solid[0], root, value, tell, how, depth + 1);
  const select = make("select", "form-select k-variant");
  select.setAttribute("aria-label", _("Kind of %(name)s", { name: how.label }));
  kinds.forEach((each, index) => select.append(option(String(index), each.type === "null" ? "null" : words(each, root))));
  let at = kinds.findIndex((each) => fits(each, value));
  if (at < 0) at = Math.max(0, kinds.findIndex((each) => each.type !== "null"));
  select.value = String(at);
  const slot = make("div");
  let inner = null;
  const draw = (start) => {
    inner = kinds[at].type === "null" ? { element: make("span"), focus: select, get: () => null } : control(kinds[at], root, start, tell, how, depth + 1);
    slot.replaceChildren(inner.element);
  };
  draw(value ?? undefined);
  select.addEventListener("change", () => {
    at = Number(select.value);
    draw(undefined);
    tell();
  });
  const box = make("div", "k-union");
  box.append(select, slot);
  return { element: box, get focus() { return inner.focus; }, get: () => inner.get(), wrong: () => inner.wrong?.() ?? "" };
}

function list(schema, root, value, tell, how, depth) {
  const box = group("", how.label, []);
  const rows = make("div", "k-rows");
  const fixed = Array.isArray(schema.prefixItems) ? schema.prefixItems : null;
  const items = [];
  const part = (index) => (fixed && index < fixed.length ? fixed[index] : schema.items || {});
  const add = (start) => {
    const id = `field-${++numbers}`;
    const row = make("div", "k-row");
    const inner = control(part(items.length), root, start, tell, { id, label: `${how.label} ${items.length + 1}` }, depth + 1);
    row.append(inner.element);
    items.push(inner);
    if (!fixed || items.length > fixed.length) {
      row.append(
        button(_("Remove"), "btn btn-icon btn-sm", () => {
          items.splice(items.indexOf(inner), 1);
          row.remove();
          tell();
        }, "×", _("Remove %(name)s", { name: `${how.label} ${items.length}` })),
      );
    }
    rows.append(row);
    return inner;
  };
  const start = Array.isArray(value) ? value : [];
  for (let index = 0; index < Math.max(start.length, fixed?.length ?? 0); index += 1) add(start[index]);
  const more = button(_("Add"), "btn btn-sm", () => {
    add(undefined).focus?.focus();
    tell();
  }, _("+ Add"), _("Add to %(name)s", { name: how.label }));
  box.append(rows);
  if (!fixed || schema.items) box.append(more);
  const read = () => items.map((each) => each.get() ?? null);
  return {
    element: box,
    focus: more,
    get: () => (items.length || value !== undefined || !how.required ? read() : undefined),
    wrong: () => items.map((each) => each.wrong?.() ?? "").find(Boolean) ?? "",
  };
}

function structure(schema, root, value, tell, how, depth) {
  const start = value && typeof value === "object" && !Array.isArray(value) ? value : {};
  const required = new Set(schema.required ?? []);
  const parts = Object.entries(schema.properties).map(([name, part]) => {
    const resolved = resolve(part, root);
    const set = { on: name in start || required.has(name) };
    const touched = () => {
      set.on = true;
      tell();
    };
    const id = `field-${++numbers}`;
    const label = make("label", "form-label", name);
    if (required.has(name)) label.append(make("span", "k-must", " *"));
    const inner = control(part, root, name in start ? start[name] : resolved.default, touched, { id, label: name, required: required.has(name) }, depth + 1);
    if (inner.focus?.id === id) label.htmlFor = id;
    const row = make("div", "k-field");
    row.append(label, inner.element);
    if (resolved.description) row.append(make("p", "k-small k-muted", resolved.description));
    return { name, set, inner, row };
  });
  const known = new Set(parts.map((each) => each.name));
  const others = Object.fromEntries(Object.entries(start).filter(([name]) => !known.has(name)));
  return {
    element: group("", how.label, parts.map((each) => each.row)),
    focus: parts[0]?.inner.focus,
    get: () => {
      const read = parts.filter((each) => each.set.on).map((each) => [each.name, each.inner.get()]);
      return { ...Object.fromEntries(read.filter(([, each]) => each !== undefined)), ...others };
    },
    wrong: () => parts.map((each) => each.inner.wrong?.() ?? "").find(Boolean) ?? "",
  };
}

function mapping(schema, root, value, tell, depth) {
  const rows = make("div", "k-rows");
  const entries = [];
  const add = (name, start) => {
    const key = make("input", "form-control");
    key.value = name;
    key.setAttribute("aria-label", _("Name"));
    key.addEventListener("input", tell);
    const inner = control(schema, root, start, tell, { id: `field-${++numbers}`, label: _("Value") }, depth);
    const entry = { key, inner };
    const row = make("div", "k-row");
    row.append(key, inner.element, button(_("Remove"), "btn btn-icon btn-sm", () => {
      entries.splice(entries.indexOf(entry), 1);
      row.remove();
      tell();
    }, "×", _("Remove this entry")));
    entries.push(entry);
    rows.append(row);
    return key;
  };
  for (const [name, start] of Object.entries(value)) add(name, start);
  const more = button(_("Add"), "btn btn-sm", () => add("", undefined).focus(), _("+ Add"), _("Add an entry"));
  const box = make("div");
  box.append(rows, more);
  const read = () => Object.fromEntries(entries.filter((each) => each.key.value).map((each) => [each.key.value, each.inner.get() ?? null]));
  return { element: box, focus: more, get: read, wrong: () => entries.map((each) => each.inner.wrong?.() ?? "").find(Boolean) ?? "" };
}

// ---- small things ------------------------------------------------------------------------------------------------------
const labelled = (inner, how) => ({ ...inner, element: group("", how.label, [inner.element]) });

function group(legend, label, parts) {
  const box = make("fieldset", "k-group");
  if (legend) box.append(make("legend", "form-label", legend));
  else box.setAttribute("aria-label", label);
  box.append(...parts);
  return box;
}

function fits(schema, value) {
  if (value === undefined) return false;
  if (Array.isArray(schema.enum)) return schema.enum.some((each) => same(each, value));
  if (value === null) return schema.type === "null";
  if (schema.type === "integer") return Number.isInteger(value);
  if (schema.type === "array") return Array.isArray(value);
  if (schema.type === "object") return typeof value === "object" && !Array.isArray(value);
  return schema.type === undefined || typeof value === schema.type;
}

export function words(given, root) {
  const schema = resolve(given, root);
  if (Array.isArray(schema.enum)) return _("choice");
  const variants = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(variants)) return variants.map((each) => words(each, root)).join(" | ");
  if (schema.type === "array" && schema.items) return _("list of %(kind)s", { kind: words(schema.items, root) });
  return [schema.type ?? "any", schema.format].filter(Boolean).join(", ");
}
