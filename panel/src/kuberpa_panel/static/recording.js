// Plays the pictures from before an attempt failed, and shows the lines of the log of the same moment.
import { ask } from "./socket.js";
import { _, clock } from "./words.js";

const STEP_MS = 500;
const box = document.getElementById("recording");
if (box) start();

async function start() {
  const picture = box.querySelector("img");
  const slider = box.querySelector("input[type=range]");
  const words = box.querySelector("[data-words]");
  const play = box.querySelector("[data-play]");
  let timer = 0;
  let pictures = [];
  try {
    pictures = await ask(`${box.dataset.api}?token=${box.dataset.token}`);
  } catch (error) {
    words.textContent = error.message;
    return;
  }
  if (!pictures.length) return;
  box.hidden = false;
  slider.max = pictures.length - 1;

  function show(at) {
    slider.value = at;
    const { number, at: time } = pictures[at];
    picture.src = `${box.dataset.api}/${number}?token=${box.dataset.token}`;
    const left = (Date.parse(pictures.at(-1).at) - Date.parse(time)) / 1000;
    const place = left ? _("%(seconds)s s before the end", { seconds: left.toFixed(0) }) : _("the end");
    words.textContent = `${clock(new Date(time))}, ${place}`;
    mark(Date.parse(time), Date.parse(pictures[at + 1]?.at ?? new Date(8.64e15).toISOString()));
  }

  // the lines that were written while this picture was on the screen, else the last one before it
  function mark(from, to) {
    const lines = [...document.querySelectorAll("#log .k-line")].map((line) => [line, Date.parse(line.querySelector("time")?.dateTime ?? "")]);
    let chosen = lines.filter(([, time]) => time >= from && time < to);
    if (!chosen.length) chosen = lines.filter(([, time]) => time < from).slice(-1);
    const moment = new Set(chosen.map(([line]) => line));
    for (const [line] of lines) line.classList.toggle("k-moment", moment.has(line));
    const first = chosen[0]?.[0];
    if (first) {
      const log = document.getElementById("log");
      const follow = document.getElementById("log-follow");
      follow.checked = false;
      log.scrollTop += first.getBoundingClientRect().top - log.getBoundingClientRect().top - log.clientHeight / 3;
    }
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    play.setAttribute("aria-pressed", "false");
  }

  slider.addEventListener("input", () => {
    stop();
    show(Number(slider.value));
  });
  play.addEventListener("click", () => {
    if (timer) return stop();
    play.setAttribute("aria-pressed", "true");
    let at = Number(slider.value) >= pictures.length - 1 ? 0 : Number(slider.value);
    show(at);
    timer = setInterval(() => {
      at += 1;
      if (at >= pictures.length) return stop();
      show(at);
    }, STEP_MS);
  });
  show(pictures.length - 1);
  document.getElementById("live")?.addEventListener("log", () => queueMicrotask(() => show(Number(slider.value))), { once: true });
}
