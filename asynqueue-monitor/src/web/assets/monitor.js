// Makes the figures of a page live, and asks before what cannot be undone. Pages work without it.
"use strict";

for (const button of document.querySelectorAll("[data-confirm]")) {
  button.addEventListener("click", (event) => {
    if (!confirm(button.dataset.confirm)) event.preventDefault();
  });
}

for (const all of document.querySelectorAll("[data-all]")) {
  all.addEventListener("change", () => {
    for (const box of all.form.querySelectorAll("input[name=id]")) box.checked = all.checked;
  });
}

let source;

function show({ queues, servers }) {
  for (const element of document.querySelectorAll("[data-figure]")) {
    const queue = queues[element.closest("[data-queue]")?.dataset.queue];
    const text = queue?.[element.dataset.figure];
    if (text !== undefined && element.textContent !== text) element.textContent = text;
  }
  for (const element of document.querySelectorAll("[data-servers]")) {
    element.textContent = servers[element.dataset.servers];
  }
}

// A hidden tab asks for nothing.
function follow() {
  if (document.hidden) {
    source?.close();
    source = undefined;
  } else if (!source) {
    source = new EventSource(document.body.dataset.live);
    source.onmessage = (event) => show(JSON.parse(event.data));
  }
}

document.addEventListener("visibilitychange", follow);
if (document.querySelector("[data-figure], [data-servers]")) follow();

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
