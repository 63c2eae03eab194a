// Keyboard shortcuts. The dialog `#keys` lists them.

// The first link of each table row.
const rows = () => [...document.querySelectorAll("tbody tr")].map((row) => row.querySelector("a")).filter(Boolean);

function move(by) {
  const links = rows();
  const place = links.indexOf(document.activeElement) + by;
  links[Math.max(0, Math.min(place, links.length - 1))]?.focus();
}

const keys = {
  "/": () => (document.querySelector(".filter [type=search]") ?? document.querySelector(".find [type=search]")).focus(),
  "?": () => document.getElementById("keys").showModal(),
  j: () => move(1),
  k: () => move(-1),
  x: () => document.activeElement.closest("tbody tr")?.querySelector("[type=checkbox]")?.click(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest("input:not([type=checkbox]), textarea, select")) return;
  const action = keys[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
