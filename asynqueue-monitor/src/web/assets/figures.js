// Live updates of the numbers on a page.
import { draw } from "./chart.js";
import { refresh } from "./fresh.js";
import { expectUpdates, explain, recordUpdate } from "./stale.js";

function write(element, text) {
  if (text !== undefined && element.textContent !== text) element.textContent = text;
}

// Zeros have no link, as on the server.
function writeLinked(cell, text) {
  if (text === "0") return write(cell, text);
  if (!cell.querySelector("a")) link(cell);
  write(cell.querySelector("a"), text);
}

function link(cell) {
  const page = cell.closest("tr").querySelector("a").getAttribute("href");
  const link = document.createElement("a");
  link.href = `${page}?state=${cell.dataset.figure}`;
  cell.replaceChildren(link);
}

function show({ queues, totals, jobs, versions, recent, last }) {
  for (const element of document.querySelectorAll("[data-figure]")) {
    const text = queues[element.closest("[data-queue]")?.dataset.queue]?.[element.dataset.figure];
    if (text !== undefined && "link" in element.dataset) writeLinked(element, text);
    else write(element, text);
  }
  for (const element of document.querySelectorAll("[data-total]")) write(element, totals[element.dataset.total]);
  for (const { id, text, offer, failed } of jobs) {
    const form = document.querySelector(`[data-job="${id}"]`);
    if (!form) continue;
    form.classList.toggle("error", failed);
    write(form.querySelector("span"), text);
    const button = form.querySelector("button");
    if (offer) button && write(button, offer);
    else button?.remove();
  }
  draw(recent, last);
  refresh(versions);
}

let source;
let again;
let wait = 1;

// Hidden tabs do not connect.
export function follow() {
  clearTimeout(again);
  source?.close();
  source = undefined;
  const { refresh: every } = document.body.dataset;
  const follows = !document.hidden && every !== "0";
  expectUpdates(follows ? Number(every) : undefined);
  if (follows) connect();
}

// After an error, the connection is retried with exponential backoff.
function connect() {
  const { live, refresh: every } = document.body.dataset;
  const { queue, id } = document.querySelector("[data-fresh=task], [data-fresh=tasks]")?.dataset ?? {};
  const [all, schedules] = ["queues", "schedules"].map((part) => document.querySelector(`[data-fresh=${part}]`) !== null);
  const params = new URLSearchParams({ every, all, schedules, ...(queue && { queue }), ...(id && { id }) });
  source = new EventSource(`${live}?${params}`);
  source.onmessage = (event) => {
    wait = 1;
    const update = JSON.parse(event.data);
    if (update.error) return explain(`${update.error[0].toUpperCase()}${update.error.slice(1)}.`);
    recordUpdate(update, Number(every));
    show(update);
  };
  source.onopen = () => explain();
  source.onerror = () => {
    source.close();
    explain("The monitor is not responding.");
    isLoggedOut().then((out) => out && explain("You are logged out. Load the page again to log in."));
    again = setTimeout(connect, wait * 1000);
    wait = Math.min(wait * 2, 60);
  };
}

// The type keeps the monitor from requesting a password in a dialog of the browser.
async function isLoggedOut() {
  const response = await fetch(location.href, { method: "HEAD", headers: { accept: "text/html" } }).catch(() => undefined);
  return response?.status === 401;
}

window.addEventListener("pagehide", () => source?.close());
