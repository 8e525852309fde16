// The same words as kuberpa_panel.api.text.duration: two units at most.
import { number, pgettext } from "./words.js";

const SECOND = pgettext("unit", "s");
const MINUTE = pgettext("unit", "min");
const HOUR = pgettext("unit", "h");
const DAY = pgettext("unit", "d");
const UNITS = [
  [86400, DAY, 3600, HOUR],
  [3600, HOUR, 60, MINUTE],
  [60, MINUTE, 1, SECOND],
];

export function duration(seconds) {
  const span = Math.max(seconds, 0);
  if (span < 1) return `${number(span, 1)} ${SECOND}`;
  const whole = Math.floor(span);
  for (const [size, unit, nextSize, nextUnit] of UNITS) {
    if (whole < size) continue;
    const rest = Math.floor((whole % size) / nextSize);
    return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${nextUnit}` : ""}`;
  }
  return `${whole} ${SECOND}`;
}
