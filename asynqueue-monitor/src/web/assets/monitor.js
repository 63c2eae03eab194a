// Makes the figures of a page live, and asks before what cannot be undone. Pages work without it.
"use strict";

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-confirm]");
  if (button && !confirm(button.dataset.confirm)) event.preventDefault();
});

for (const all of document.querySelectorAll("[data-all]")) {
  all.addEventListener("change", () => {
    for (const box of all.form.querySelectorAll("input[name=id]")) box.checked = all.checked;
  });
}

// Completes the last term of a filter, where browsers complete the whole.
for (const input of document.querySelectorAll(".filter [list]")) {
  input.addEventListener("input", () => {
    const before = input.value.slice(0, input.value.lastIndexOf(" ") + 1);
    for (const option of input.list.options) option.value = before + option.dataset.term;
  });
}

function write(element, text) {
  if (text !== undefined && element.textContent !== text) element.textContent = text;
}

// Where there was nothing, there was no link to it.
function link(cell) {
  const page = cell.closest("tr").querySelector("a").getAttribute("href");
  const link = document.createElement("a");
  link.href = `${page}?state=${cell.dataset.figure}`;
  cell.replaceChildren(link);
}

function show({ queues, totals, jobs, versions, recent, last }) {
  for (const element of document.querySelectorAll("[data-figure]")) {
    const text = queues[element.closest("[data-queue]")?.dataset.queue]?.[element.dataset.figure];
    if (text !== undefined && text !== "0" && "link" in element.dataset && !element.querySelector("a")) link(element);
    write(element.querySelector("a") ?? element, text);
  }
  for (const element of document.querySelectorAll("[data-total]")) write(element, totals[element.dataset.total]);
  for (const { id, text, offer } of jobs) {
    const form = document.querySelector(`[data-job="${id}"]`);
    if (!form) continue;
    write(form.querySelector("span"), text);
    const button = form.querySelector("button");
    if (offer) button && write(button, offer);
    else button?.remove();
  }
  draw(recent, last);
  const isOld = ({ dataset: { fresh, version } }) => versions[fresh] && versions[fresh] !== version;
  if ([...document.querySelectorAll("[data-fresh]")].some(isOld)) refresh();
}

// What is fresher than the figures alone: the parts of the page that have changed, as the server writes them.
let refreshing = false;
async function refresh() {
  if (refreshing) return;
  refreshing = true;
  try {
    const answer = await fetch(location.href);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of document.querySelectorAll("[data-fresh]")) {
      const fresh = page.getElementById(old.id);
      if (!fresh || fresh.dataset.version === old.dataset.version) continue;
      const focused = old.contains(document.activeElement) && document.activeElement.getAttribute("href");
      const open = [...old.querySelectorAll("details")].map((details) => details.open);
      fresh.querySelectorAll("details").forEach((details, place) => (details.open = Boolean(open[place])));
      old.replaceWith(fresh);
      if (focused) fresh.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
    }
  } catch {
    // Tried again with the next figures.
  } finally {
    refreshing = false;
  }
}

let seconds = [];

function draw(recent, last) {
  const chart = document.getElementById("recent");
  if (!chart) return;
  if (recent) seconds = recent;
  else if (last) seconds = [...seconds, last].slice(-120);
  if (!seconds.length) return;
  const most = Math.max(1, ...seconds.map(([succeeded, failed]) => succeeded + failed));
  const bars = seconds.flatMap(([succeeded, failed], place) => {
    const x = (120 - seconds.length + place) * 10;
    const good = (succeeded / most) * 100;
    const bad = (failed / most) * 100;
    return [bar("good", x, 100 - good, good), bar("bad", x, 100 - good - bad, bad)];
  });
  chart.querySelector("svg").replaceChildren(...bars);
  chart.querySelectorAll("figcaption span").forEach((element, place) => write(element, String(seconds.at(-1)[place])));
}

function bar(kind, x, y, height) {
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  const attributes = { class: kind, x, y, width: 9, height };
  for (const [name, value] of Object.entries(attributes)) rect.setAttribute(name, value);
  return rect;
}

let source;
let again;
let wait = 1;

// A hidden tab asks for nothing. One that is not answered asks again, ever more seldom.
function follow() {
  clearTimeout(again);
  source?.close();
  source = undefined;
  const { live, refresh } = document.body.dataset;
  if (document.hidden || refresh === "0") return;
  const { queue, id } = document.querySelector("[data-fresh=task]")?.dataset ?? {};
  const asked = new URLSearchParams({ every: refresh, ...(id && { queue, id }) });
  source = new EventSource(`${live}?${asked}`);
  source.onmessage = (event) => {
    wait = 1;
    show(JSON.parse(event.data));
  };
  source.onerror = () => {
    source.close();
    again = setTimeout(follow, wait * 1000);
    wait = Math.min(wait * 2, 60);
  };
}

document.addEventListener("visibilitychange", follow);
window.addEventListener("pagehide", () => source?.close());
window.addEventListener("pageshow", follow);

document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    event.preventDefault();
    (document.querySelector(".filter [type=search]") ?? document.querySelector(".find [type=search]")).focus();
  }
  if (event.key === "?" && !document.querySelector("dialog[open]")) document.getElementById("keys").showModal();
  if (event.key === "j" || event.key === "k") {
    const links = [...document.querySelectorAll("tbody tr a:first-of-type")].filter((link) => link === link.closest("tr").querySelector("a"));
    const place = links.indexOf(document.activeElement) + (event.key === "j" ? 1 : -1);
    links[Math.max(0, Math.min(place, links.length - 1))]?.focus();
  }
});
