// A chart of the table that follows it: the table is what there is, the picture is for who sees it. Loaded by pages that
// have one; live updates change the table, and the picture follows.
import uPlot from "./vendor/uplot-1.6.32/uplot.mjs";

for (const figure of document.querySelectorAll("[data-chart]")) start(figure);

function start(figure) {
  const place = figure.querySelector("[data-plot]");
  const dark = () => document.documentElement.dataset.bsTheme === "dark";
  const tone = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--k-${name}`).trim();
  let plot = null;

  function data() {
    const rows = [...figure.querySelectorAll("tbody tr")];
    const x = rows.map((row) => Date.parse(row.querySelector("time").dateTime) / 1000);
    const columns = [...figure.querySelectorAll("thead th")].slice(1);
    const series = columns.map((_, index) => rows.map((row) => Number(row.cells[index + 1].dataset.value)));
    return { columns, values: [x, ...series] };
  }

  function draw() {
    const { columns, values } = data();
    const width = place.clientWidth;
    if (!width) return;
    plot?.destroy();
    const axis = { stroke: tone("soft"), grid: { stroke: tone("line"), width: 1 }, ticks: { show: false }, font: "12px sans-serif" };
    const bars = uPlot.paths.bars({ size: [0.7, 40] });
    plot = new uPlot(
      {
        width,
        height: 150,
        cursor: { drag: { x: false, y: false } },
        legend: { show: false },
        scales: { y: { range: (_plot, _low, high) => [0, Math.max(1, high * 1.1)] } },
        axes: [
          { ...axis, values: (_plot, ticks) => ticks.map((at) => new Date(at * 1000).toLocaleTimeString(document.documentElement.lang, { hourCycle: "h23", hour: "2-digit", minute: "2-digit" })) },
          { ...axis, size: 42, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 100000] },
        ],
        series: [{}, ...columns.map((th) => ({ label: th.textContent, stroke: tone(th.dataset.tone), fill: tone(th.dataset.tone), paths: bars, points: { show: false } }))],
      },
      values,
      place,
    );
    figure.dataset.drawn = String(Number(figure.dataset.drawn ?? 0) + 1);
    figure.dataset.dark = String(dark());
  }

  draw();
  new ResizeObserver(() => plot && place.clientWidth !== plot.width && draw()).observe(place);
  new MutationObserver(draw).observe(figure.querySelector("[data-table]"), { childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ["data-value"] });
  new MutationObserver(draw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-bs-theme"] });
}
