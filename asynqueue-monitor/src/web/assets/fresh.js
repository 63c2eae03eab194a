// The parts of a page that have changed, as the server writes them.
import { prepare } from "./forms.js";

let refreshing = false;

export async function refresh(versions) {
  const isOld = ({ dataset: { fresh, version } }) => versions[fresh] && versions[fresh] !== version;
  if (refreshing || ![...document.querySelectorAll("[data-fresh]")].some((part) => isOld(part) && !isInUse(part))) return;
  refreshing = true;
  try {
    const answer = await fetch(location.href);
    if (answer.status === 404) leave();
    else if (answer.ok) replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    // Tried again with the next figures.
  } finally {
    refreshing = false;
  }
}

// Somebody chooses or types there.
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

// What the page is about is gone. Whoever reads it may go on.
function leave() {
  for (const part of document.querySelectorAll("[data-fresh]")) delete part.dataset.fresh;
  const notice = document.createElement("p");
  notice.className = "notice";
  notice.role = "status";
  notice.textContent = "This is not there any more; it is shown as it was.";
  document.querySelector("h1").after(notice);
}
