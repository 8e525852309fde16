// A value that has changed flashes, so that whoever watches sees which one it was.
const FLASH_MS = 1500;
const rows = document.getElementById("main");

new MutationObserver((records) => {
  for (const record of records) {
    const node = record.target instanceof Element ? record.target : record.target.parentElement;
    const cell = node?.closest(".k-gsettings .c-value, #gsettings-value pre");
    if (!cell) continue;
    cell.classList.add("k-flash");
    setTimeout(() => cell.classList.remove("k-flash"), FLASH_MS);
  }
}).observe(rows, { characterData: true, childList: true, subtree: true });
