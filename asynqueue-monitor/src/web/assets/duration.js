// Durations in the same format as on the server.

export function duration(millis) {
  if (millis < 1_000) return `${Math.floor(millis)}ms`;
  if (millis < 10_000) return `${(millis / 1_000).toFixed(1)}s`;
  const seconds = Math.floor(millis / 1_000);
  const units = [["d", 86_400, Infinity], ["h", 3_600, 24], ["m", 60, 60], ["s", 1, 60]];
  const parts = units.map(([unit, size, most]) => [Math.floor(seconds / size) % most, unit]);
  const first = parts.findIndex(([count]) => count > 0);
  const shown = parts.slice(first, first + 2).filter(([count]) => count > 0);
  return shown.map(([count, unit]) => `${count}${unit}`).join(" ");
}
