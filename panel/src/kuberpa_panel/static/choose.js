// What is chosen in a list, for what is asked of all of it. Live updates replace rows, not the choice.
// The bar names the fields (data-choose) and the table's body (data-rows); without it nothing can be chosen.
const bar = document.getElementById("chosen");
const rows = document.getElementById(bar.dataset.rows);
const all = document.querySelector("[data-choose-all]");
const chosen = new Set();

const boxes = () => [...rows.querySelectorAll(`input[name=${bar.dataset.choose}]`)];

function show() {
  const present = boxes();
  for (const box of present) if (box.checked !== chosen.has(box.value)) box.checked = chosen.has(box.value);
  const here = new Set(present.map((box) => box.value));
  for (const value of chosen) if (!here.has(value)) chosen.delete(value);
  bar.hidden = chosen.size === 0;
  bar.querySelector("[data-count]").textContent = String(chosen.size);
  all.checked = present.length > 0 && chosen.size === present.length;
  all.indeterminate = chosen.size > 0 && !all.checked;
}

addEventListener("change", (event) => {
  if (event.target === all) {
    for (const box of boxes()) if (all.checked) chosen.add(box.value);
    if (!all.checked) chosen.clear();
  } else if (event.target.matches?.(`input[name=${bar.dataset.choose}]`)) {
    if (event.target.checked) chosen.add(event.target.value);
    else chosen.delete(event.target.value);
  } else return;
  show();
});

new MutationObserver(show).observe(rows, { childList: true, subtree: true, attributes: true });
addEventListener("pageshow", () => {
  for (const box of boxes()) if (box.checked) chosen.add(box.value);
  show();
});
