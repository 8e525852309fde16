// The same words as kuberpa_panel.api.text.duration: two units at most.
const UNITS = [
  [86400, "d", 3600, "h"],
  [3600, "h", 60, "min"],
  [60, "min", 1, "s"],
];

export function duration(seconds) {
  const span = Math.max(seconds, 0);
  if (span < 1) return `${span.toFixed(1)} s`;
  const whole = Math.floor(span);
  for (const [size, unit, nextSize, nextUnit] of UNITS) {
    if (whole < size) continue;
    const rest = Math.floor((whole % size) / nextSize);
    return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${nextUnit}` : ""}`;
  }
  return `${whole} s`;
}
