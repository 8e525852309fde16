// The log of one activity: all of its attempts, one after the other, as they are written.
import { LogView, divider, gapRow, lineRow } from "./logview.js";
import { _ } from "./words.js";

const EARLIER = 1000;
const view = document.getElementById("log");
const live = document.getElementById("live");
if (view && live) start();

function start() {
  const log = new LogView(view);
  const [firstToken, firstSeq] = view.dataset.place.split(":").map(Number);
  const wanted = new URLSearchParams(location.search).get("line");
  const state = { token: firstToken, seq: firstSeq, ended: false };

  if (wanted) log.follow.checked = false;
  if (firstSeq > 0) view.append(log.earlier(() => before(firstSeq)));
  log.placeholder(_("Waiting for output…"));
  live.addEventListener("log", (event) => append(JSON.parse(event.detail.data)));

  function append(records) {
    let lines = 0;
    for (const record of records) {
      if (record.type === "end") {
        finish(record);
        continue;
      }
      if (record.token < state.token || (record.token === state.token && (record.seq ?? record.last) <= state.seq)) continue;
      if (record.token !== state.token && record.attempt > 1) log.put(divider(_("Attempt %(attempt)s", { attempt: record.attempt })));
      state.token = record.token;
      state.seq = record.seq ?? record.last;
      log.put(record.type === "gap" ? gapRow(record.first, record.last, _("lost with the robot's spool")) : row(record));
      lines += 1;
    }
    log.added(lines);
    if (wanted) reveal(wanted);
  }

  function finish(record) {
    if (state.ended) return;
    state.ended = true;
    if (log.empty) view.querySelector(".k-log-empty").textContent = _("It wrote nothing.");
    else log.put(divider(record.exitCode == null ? record.phase : _("%(phase)s, exit code %(code)s", { phase: record.phase, code: record.exitCode })));
  }

  async function before(seq) {
    const after = Math.max(0, seq - EARLIER);
    const attempt = view.querySelector("[data-attempt]")?.dataset.attempt ?? 0;
    const answer = await fetch(`${view.dataset.api}?attempt=${attempt}&after=${after}&limit=${seq - after}`);
    if (!answer.ok) return null;
    const page = await answer.json();
    const lines = page.lines.filter((line) => line.seq <= seq);
    const rows = lines.map((line) => row({ ...line, token: page.token, attempt: page.attempt }));
    return { rows, more: after > 0 && (() => before(after)) };
  }
}

function row(record) {
  const id = `L${record.token}-${record.seq}`;
  const href = `${view.dataset.page ?? ""}?line=${record.token}:${record.seq}#${id}`;
  const line = lineRow(record, { id, href, label: record.seq });
  line.dataset.attempt = record.attempt;
  return line;
}

function reveal(wanted) {
  const line = document.getElementById(`L${wanted.replace(":", "-")}`);
  if (!line || line.classList.contains("k-wanted")) return;
  line.classList.add("k-wanted");
  line.scrollIntoView({ block: "center" });
}
