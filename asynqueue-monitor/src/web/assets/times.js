// Keeps relative times current.
import { duration } from "./duration.js";
import { isStale } from "./stale.js";

const loaded = performance.now();
const then = Number(document.body.dataset.now);

// The time by the clock of the broker.
const now = () => then + performance.now() - loaded;

// Without updates, a task may have ended long ago, so its clocks stand still.
setInterval(() => {
  if (document.hidden || isStale()) return;
  for (const element of document.querySelectorAll("time")) {
    const distance = Date.parse(element.dateTime) - now();
    if (Number.isNaN(distance)) continue;
    element.textContent = distance > 0 ? `in ${duration(distance)}` : `${duration(-distance)} ago`;
  }
}, 1_000);
