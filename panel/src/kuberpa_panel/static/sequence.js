// Steps up to the chosen one follow by themselves while this page is open: the server says which is due.
const place = document.getElementById("main");
let sent = false;

function look() {
  const due = place.querySelector("form[data-go]");
  if (!due || sent) return;
  sent = true;
  due.requestSubmit();
}

new MutationObserver(look).observe(place, { childList: true, subtree: true });
addEventListener("pageshow", () => {
  sent = false;
  look();
});
