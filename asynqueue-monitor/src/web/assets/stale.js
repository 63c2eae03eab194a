// Shows that no updates arrive: a banner, and figures that look old.
import { duration } from "./duration.js";

// Updates that may be missing before the figures count as old.
const MISSED = 3;

const SILENT = "No new figures arrive from the monitor.";

// When the last update arrived, by the clock of the page. The page itself is the first.
let heard = performance.now();
// Since when updates are expected. Undefined while the page does not follow.
let since;
// The expected time between two updates in milliseconds.
let every = 1_000;
let reason = SILENT;

export const isStale = () => "stale" in document.body.dataset;

export function expectUpdates(seconds) {
  since = seconds && performance.now();
  every = (seconds ?? 1) * 1_000;
  reason = SILENT;
  check();
}

// A slow broker is polled less often than the page requests. The first update after a reconnect may be old.
export function recordUpdate({ age, tick }, seconds) {
  heard = performance.now() - age;
  every = Math.max(tick, seconds * 1_000);
  reason = SILENT;
  check();
}

// Why no updates arrive.
export function explain(why = SILENT) {
  reason = why;
}

function check() {
  const now = performance.now();
  const banner = document.getElementById("stale");
  const stale = since !== undefined && now - Math.max(heard, since) > MISSED * every;
  document.body.toggleAttribute("data-stale", stale);
  banner.hidden = !stale;
  if (!stale) return;
  const [why, age] = banner.querySelectorAll("span");
  if (why.textContent !== reason) why.textContent = reason;
  age.textContent = `Last update ${duration(now - heard)} ago.`;
}

setInterval(check, 1_000);
