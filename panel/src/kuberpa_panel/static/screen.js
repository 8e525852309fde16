// The robot's screen: pictures onto a canvas, and keys and mouse to the robot while this page has control.
import { ask, connect, sentence } from "./socket.js";
import { _ } from "./words.js";

const HEAD_BYTES = 16;
const BUTTONS = { 0: "left", 1: "middle", 2: "right" };
const WHEEL_STEP = 100;
const box = document.getElementById("screen");

if (box) start();

function start() {
  const canvas = box.querySelector("canvas");
  const pen = canvas.getContext("2d", { alpha: false });
  const words = box.querySelector("[data-words]");
  const cover = box.querySelector("[data-cover]");
  const take = box.querySelector("[data-take]");
  const pause = box.querySelector("[data-pause]");
  const keys = box.querySelector("[data-keys]");
  const csrf = box.dataset.csrf;
  const state = { mine: false, held: new Set(), pictures: [], since: performance.now(), pending: [], due: false };

  const socket = connect(`${box.dataset.robot}/screen`, {
    opened: () => show(_("Waiting for the first picture…"), true),
    text: hear,
    data: draw,
    lost: ({ reason, refused }) => {
      mine(false);
      show(sentence(reason), true);
      words.textContent = refused ? _("ended") : _("reconnecting");
    },
  });

  let drawing = Promise.resolve();
  function draw(buffer) {
    drawing = drawing.then(() => paint(buffer)).catch(() => undefined);
  }

  async function paint(buffer) {
    const view = new DataView(buffer, 0, HEAD_BYTES);
    const [x, y, width, height, wide, high] = [4, 6, 8, 10, 12, 14].map((at) => view.getUint16(at));
    const picture = await createImageBitmap(new Blob([new Uint8Array(buffer, HEAD_BYTES)], { type: "image/jpeg" }));
    if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
    pen.drawImage(picture, x, y, width, height);
    picture.close();
    show("", false);
    canvas.dataset.pictures = Number(canvas.dataset.pictures ?? 0) + 1;
    socket.tell({ shown: view.getUint32(0) });
  }

  function hear(news) {
    if (news.uncapturable !== undefined) show(sentence(news.uncapturable || _("waiting for a picture")), Boolean(news.uncapturable));
    if (news.refused) words.textContent = news.refused;
    if (news.lost) words.textContent = news.lost;
    if (news.viewers) {
      const short = (name) => name.split(":").at(-1);
      const others = news.viewers.map(short).join(", ");
      words.textContent = news.controller ? _("%(name)s has control. Watching: %(others)s", { name: short(news.controller), others }) : _("Watching: %(others)s", { others });
      box.dataset.controller = news.controller;
      mine(Boolean(news.mine));
    }
  }

  function show(text, covered) {
    cover.textContent = text;
    cover.hidden = !covered;
  }

  function mine(yes) {
    state.mine = yes;
    box.classList.toggle("k-mine", yes);
    if (!take) return;
    take.setAttribute("aria-pressed", String(yes));
    const taken = box.dataset.controller && !yes;
    take.querySelector("span").textContent = yes ? take.dataset.give : taken ? take.dataset.force : take.dataset.get;
    keys.disabled = !yes;
    if (!yes) state.held.clear();
  }

  // ---- control
  take?.addEventListener("click", async () => {
    if (state.mine) {
      socket.tell({ release: true });
      if (state.paused) order("start");
      state.paused = false;
      return;
    }
    if (pause?.checked) {
      try {
        await order("pause");
        state.paused = true;
      } catch (error) {
        words.textContent = error.message;
        return;
      }
    }
    socket.tell({ take: true, force: Boolean(box.dataset.controller) });
    canvas.focus();
  });
  keys?.addEventListener("click", () => {
    for (const key of ["Control", "Alt", "Delete"]) send({ keyDown: key });
    for (const key of ["Delete", "Alt", "Control"]) send({ keyUp: key });
    canvas.focus();
  });
  box.querySelector("[data-full]")?.addEventListener("click", () => box.querySelector(".k-screen").requestFullscreen());

  function order(action) {
    return ask(`${box.dataset.robot}/${action}`, { method: "POST", csrf });
  }

  function send(event) {
    if (!state.mine) return;
    // of moves only the last counts
    const last = state.pending.at(-1);
    if (event.move && last?.move) state.pending.pop();
    state.pending.push(event);
    if (state.due) return;
    state.due = true;
    queueMicrotask(flush);
  }

  function flush() {
    state.due = false;
    if (state.pending.length) socket.tell({ events: state.pending.splice(0) });
  }

  function place(event) {
    const frame = canvas.getBoundingClientRect();
    const x = Math.round(((event.clientX - frame.left) * canvas.width) / frame.width);
    const y = Math.round(((event.clientY - frame.top) * canvas.height) / frame.height);
    return [Math.min(Math.max(x, 0), canvas.width - 1), Math.min(Math.max(y, 0), canvas.height - 1)];
  }

  let moved = 0;
  canvas.addEventListener("pointermove", (event) => {
    if (!state.mine || performance.now() - moved < 20) return;
    moved = performance.now();
    send({ move: place(event) });
  });
  canvas.addEventListener("pointerdown", (event) => {
    if (!state.mine || !(event.button in BUTTONS)) return;
    canvas.setPointerCapture(event.pointerId);
    send({ move: place(event) });
    send({ buttonDown: BUTTONS[event.button] });
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!state.mine || !(event.button in BUTTONS)) return;
    send({ move: place(event) });
    send({ buttonUp: BUTTONS[event.button] });
  });
  canvas.addEventListener("contextmenu", (event) => state.mine && event.preventDefault());
  let turned = { x: 0, y: 0 };
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!state.mine) return;
      event.preventDefault();
      turned = { x: turned.x + event.deltaX, y: turned.y + event.deltaY };
      const steps = [Math.trunc(turned.x / WHEEL_STEP), Math.trunc(turned.y / WHEEL_STEP)];
      if (!steps[0] && !steps[1]) return;
      turned = { x: turned.x - steps[0] * WHEEL_STEP, y: turned.y - steps[1] * WHEEL_STEP };
      send({ scroll: steps.map((n) => Math.max(-20, Math.min(20, n))) });
    },
    { passive: false },
  );

  const NAMED = /^(Alt|AltGraph|CapsLock|Control|Meta|NumLock|ScrollLock|Shift|Enter|Tab|Backspace|Delete|Insert|Escape|ContextMenu|Pause|PrintScreen|Arrow(Down|Left|Right|Up)|End|Home|PageDown|PageUp|F\d{1,2})$/;
  const known = (key) => [...key].length === 1 || NAMED.test(key);
  canvas.addEventListener("keydown", (event) => {
    if (!state.mine || !known(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    state.held.add(event.key);
    send({ keyDown: event.key });
  });
  canvas.addEventListener("keyup", (event) => {
    if (!state.mine || !known(event.key)) return;
    event.preventDefault();
    // Shift may have been let go first: then the key has another name now
    const key = state.held.has(event.key) ? event.key : [...state.held].find((each) => each.toLowerCase() === event.key.toLowerCase());
    state.held.delete(key ?? event.key);
    send({ keyUp: key ?? event.key });
  });
  canvas.addEventListener("blur", () => {
    for (const key of state.held) send({ keyUp: key });
    state.held.clear();
  });
  canvas.addEventListener("paste", (event) => {
    const text = event.clipboardData?.getData("text") ?? "";
    if (state.mine && text) send({ text: text.slice(0, 4096) });
  });
}
