// Confirmation of destructive actions, and selection of tasks.

document.addEventListener("submit", (event) => {
  const question = event.submitter && questionOf(event.target, event.submitter);
  if (question && !confirm(question)) event.preventDefault();
});

function questionOf(form, button) {
  if (!form.matches(".tasks")) return button.dataset.confirm;
  // A page with the number of tasks follows.
  if (form.elements.which.value === "all") return;
  const action = button.textContent.trim();
  const count = selected(form);
  return button.dataset.confirm && `${action} ${count === 1 ? "this task" : `these ${count} tasks`}?`;
}

const selected = (form) => form.querySelectorAll("input[name=id]:checked").length;

// Shows the number of selected tasks, and disables the actions while none is selected.
function tally(form) {
  const { which } = form.elements;
  const count = selected(form);
  which.options[0].textContent = count ? `Selected tasks (${count})` : "Selected tasks";
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

// Browsers restore checkboxes when the user navigates back to a page.
window.addEventListener("pageshow", () => prepare(document));

// Completes only the last term of a filter. Browsers would replace the entire value.
document.addEventListener("input", ({ target }) => {
  if (!target.matches(".filter [list]")) return;
  const before = target.value.slice(0, target.value.lastIndexOf(" ") + 1);
  for (const option of target.list.options) option.value = before + option.dataset.term;
});
