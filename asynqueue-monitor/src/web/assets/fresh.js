// Replaces the parts of a page that have changed on the server.
import { prepare } from "./forms.js";

let refreshing = false;

export async function refresh(versions) {
  const isOld = ({ dataset: { fresh, version } }) => versions[fresh] && versions[fresh] !== version;
  if ([...document.querySelectorAll("[data-fresh]")].some((part) => isOld(part) && !isInUse(part))) await reload();
}

export async function reload() {
  if (refreshing) return;
  refreshing = true;
  try {
    const response = await fetch(location.href);
    if (response.status === 404) leave();
    else if (response.ok) replace(new DOMParser().parseFromString(await response.text(), "text/html"));
  } catch {
    // Retried with the next update.
  } finally {
    refreshing = false;
  }
}

// Whether the user is typing in a part or has selected something in it.
function isInUse(part) {
  const { activeElement } = document;
  const isTyping = part.contains(activeElement) && activeElement.matches("input:not([type=checkbox]), select, textarea");
  return isTyping || part.querySelector("input:checked") !== null;
}

function replace(page) {
  for (const old of document.querySelectorAll("[data-fresh]")) {
    const fresh = page.getElementById(old.id);
    if (!fresh || fresh.dataset.version === old.dataset.version || isInUse(old)) continue;
    const focused = old.contains(document.activeElement) && document.activeElement.getAttribute("href");
    const open = [...old.querySelectorAll("details")].map((details) => details.open);
    fresh.querySelectorAll("details").forEach((details, place) => (details.open = Boolean(open[place])));
    old.replaceWith(fresh);
    prepare(fresh);
    if (focused) fresh.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
  }
}

// The task was deleted. The page stays readable, without updates.
function leave() {
  for (const part of document.querySelectorAll("[data-fresh]")) delete part.dataset.fresh;
  const notice = document.createElement("p");
  notice.className = "notice error";
  notice.role = "status";
  notice.textContent = "No longer exists. The last known state is shown.";
  document.querySelector("h1").after(notice);
}
