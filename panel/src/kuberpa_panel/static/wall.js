// Small pictures of the robots of this page: asked for while they are on the screen of somebody who looks.
import { duration } from "./duration.js";
import { connect } from "./socket.js";

const wall = document.getElementById("wall");
if (wall) start();

function start() {
  const tiles = new Map([...wall.querySelectorAll("[data-place]")].map((tile) => [tile.dataset.place, tile]));
  const seen = new Set();
  let socket = null;
  let timer = 0;

  const looks = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) seen.add(target.dataset.place);
      else seen.delete(target.dataset.place);
    }
    clearTimeout(timer);
    timer = setTimeout(say, 150);
  });
  for (const tile of tiles.values()) looks.observe(tile);

  function say() {
    socket?.tell({ robots: document.hidden ? [] : [...seen] });
  }

  addEventListener("visibilitychange", say);
  // a picture says how old it is: an old one must not be taken for what is
  setInterval(() => {
    if (document.hidden) return;
    for (const tile of tiles.values()) {
      if (tile.dataset.at) tile.querySelector("[data-age]").textContent = duration((Date.now() - tile.dataset.at) / 1000);
    }
  }, 1000);
  socket = connect("/api/v1/thumbnails", {
    opened: say,
    text: (news) => {
      const tile = tiles.get(news.robot);
      if (!tile) return;
      tile.querySelector("[data-why]").textContent = news.uncapturable;
      tile.classList.add("k-blind");
    },
    data: (buffer) => {
      const length = new DataView(buffer).getUint16(0);
      const tile = tiles.get(new TextDecoder().decode(new Uint8Array(buffer, 2, length)));
      if (!tile) return;
      const picture = tile.querySelector("img");
      const former = picture.src;
      picture.src = URL.createObjectURL(new Blob([new Uint8Array(buffer, 2 + length)], { type: "image/jpeg" }));
      if (former.startsWith("blob:")) URL.revokeObjectURL(former);
      picture.hidden = false;
      tile.dataset.pictures = Number(tile.dataset.pictures ?? 0) + 1;
      tile.dataset.at = Date.now();
      tile.classList.remove("k-blind");
      tile.querySelector("[data-why]").textContent = "";
    },
    lost: () => true,
  });
}
