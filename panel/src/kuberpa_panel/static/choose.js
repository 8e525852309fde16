// What is chosen in a list, for what is asked of all of it. Live updates replace rows, and pages come and go, not the
// choice: it is kept by what tells an object from a later one of its name (data-uid), for as long as the tab lives.
// The bar names the fields (data-choose) and the table's body (data-rows); without it nothing can be chosen.
const bar = document.getElementById("chosen");
const rows = document.getElementById(bar.dataset.rows);
const all = document.querySelector("[data-choose-all]");
const keeps = bar.dataset.keep !== undefined;
const KEY = `chosen ${location.pathname}`;
const chosen = new Map(keeps ? JSON.parse(sessionStorage.getItem(KEY) ?? "[]") : []);

const boxes = () => [...rows.querySelectorAll(`input[name=${bar.dataset.choose}]`)];
const keyOf = (box) => box.dataset.uid || box.value;

function show() {
  const present = boxes();
  for (const box of present) if (box.checked !== chosen.has(keyOf(box))) box.checked = chosen.has(keyOf(box));
  const here = new Set(present.map(keyOf));
  if (!keeps) for (const key of chosen.keys()) if (!here.has(key)) chosen.delete(key);
  if (keeps) sessionStorage.setItem(KEY, JSON.stringify([...chosen]));
  const elsewhere = [...chosen].filter(([key]) => !here.has(key));
  for (const input of bar.querySelectorAll("[data-elsewhere]")) input.remove();
  for (const [, value] of elsewhere) bar.append(hidden(value));
  bar.hidden = chosen.size === 0;
  bar.querySelector("[data-count]").textContent = String(chosen.size);
  const away = bar.querySelector("[data-away]");
  if (away) away.hidden = elsewhere.length === 0;
  const ticked = present.filter((box) => box.checked).length;
  all.checked = present.length > 0 && ticked === present.length;
  all.indeterminate = ticked > 0 && !all.checked;
  const whole = bar.querySelector("[data-whole]");
  if (whole) whole.hidden = !all.checked;
}

function hidden(value) {
  const input = document.createElement("input");
  input.type = "hidden";
  input.name = bar.dataset.choose;
  input.value = value;
  input.dataset.elsewhere = "";
  return input;
}

addEventListener("change", (event) => {
  if (event.target === all) {
    for (const box of boxes()) if (all.checked) chosen.set(keyOf(box), box.value);
    if (!all.checked) for (const box of boxes()) chosen.delete(keyOf(box));
  } else if (event.target.matches?.(`input[name=${bar.dataset.choose}]`)) {
    if (event.target.checked) chosen.set(keyOf(event.target), event.target.value);
    else chosen.delete(keyOf(event.target));
  } else return;
  show();
});
bar.addEventListener("submit", () => {
  if (keeps) sessionStorage.removeItem(KEY);
});
bar.querySelector("[data-none]")?.addEventListener("click", () => {
  chosen.clear();
  show();
});

new MutationObserver(show).observe(rows, { childList: true, subtree: true, attributes: true });
addEventListener("pageshow", () => {
  for (const box of boxes()) if (box.checked) chosen.set(keyOf(box), box.value);
  show();
});
