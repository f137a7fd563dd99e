/* A button on each block of code that copies it; of a console session, the commands only. */
"use strict";

function textOf(block) {
  const text = block.querySelector("pre").textContent.trimEnd();
  if (!block.classList.contains("highlight-console")) return text;
  const commands = text.split("\n").filter((line) => line.startsWith("$ "));
  return commands.map((line) => line.slice(2)).join("\n");
}

function addButton(block) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy-button";
  button.textContent = "Copy";
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(textOf(block));
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not copied";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  block.classList.add("copyable");
  block.append(button);
}

document.addEventListener("DOMContentLoaded", () => {
  // Browsers give pages from plain HTTP no clipboard.
  if (!navigator.clipboard) return;
  // Output, log lines and drawings are to be read.
  const code = "div[class*='highlight-']:not(.highlight-output, .highlight-text)";
  document.querySelectorAll(code).forEach(addButton);
});
