// Asks before what destroys or changes much, and helps to choose.

document.addEventListener("submit", (event) => {
  const question = event.submitter && questionOf(event.target, event.submitter);
  if (question && !confirm(question)) event.preventDefault();
});

function questionOf(form, button) {
  if (!form.matches(".tasks")) return button.dataset.confirm;
  const does = button.textContent.trim();
  if (form.elements.which.value === "all") return `${does} all tasks that match, on every page?`;
  const count = chosen(form);
  return button.dataset.confirm && `${does} ${count === 1 ? "this task" : `these ${count} tasks`}?`;
}

const chosen = (form) => form.querySelectorAll("input[name=id]:checked").length;

// Says how many are chosen, and offers nothing to do while none is.
function tally(form) {
  const { which } = form.elements;
  const count = chosen(form);
  which.options[0].textContent = count ? `those chosen (${count})` : "those chosen";
  const isIdle = which.value === "chosen" && !count;
  for (const button of form.querySelectorAll("button[name=do]")) button.disabled = isIdle;
}

export function prepare(part) {
  part.querySelectorAll("form.tasks").forEach(tally);
}

document.addEventListener("change", ({ target }) => {
  const form = target.closest("form.tasks");
  if (!form) return;
  if ("all" in target.dataset) {
    for (const box of form.querySelectorAll("input[name=id]")) box.checked = target.checked;
  }
  tally(form);
});

// Browsers bring back what was chosen when one comes back to a page.
window.addEventListener("pageshow", () => prepare(document));

// Completes the last term of a filter, where browsers complete the whole.
document.addEventListener("input", ({ target }) => {
  if (!target.matches(".filter [list]")) return;
  const before = target.value.slice(0, target.value.lastIndexOf(" ") + 1);
  for (const option of target.list.options) option.value = before + option.dataset.term;
});
