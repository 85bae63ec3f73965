// Keys for what is done often: a approves, r rejects, e goes to the text. All of it also works without.
"use strict";
document.addEventListener("keydown", (event) => {
  const writing = event.target.closest("input, textarea, select");
  if (event.key === "Escape" && writing) { writing.blur(); return; }
  if (writing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "e") {
    const text = document.querySelector("[data-key-form=edit] textarea");
    if (text) { event.preventDefault(); text.focus(); }
    return;
  }
  const button = document.querySelector(`button[data-key="${CSS.escape(event.key)}"]:not(:disabled)`);
  if (button) { event.preventDefault(); button.click(); }
});
// A form is sent once, however often its button is pressed.
document.addEventListener("submit", (event) => {
  if (event.target.dataset.sent) { event.preventDefault(); return; }
  event.target.dataset.sent = "1";
});
// What is to be entered elsewhere is copied; where the browser forbids that, it is selected.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const shown = button.parentElement.querySelector("code");
  let done = "Copied";
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    if (shown) getSelection().selectAllChildren(shown);
    done = "Selected";
  }
  button.textContent = done;
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});
