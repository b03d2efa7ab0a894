// Replaces the parts of the page by those that the server sends, except a part that has the focus.
"use strict";
const stream = new EventSource("/console/now/live");
const state = document.querySelector("[data-live-state]");
stream.addEventListener("parts", (event) => {
  const parts = JSON.parse(event.data);
  for (const part of document.querySelectorAll("[data-live]")) {
    const html = parts[part.dataset.live];
    if (html !== undefined && !part.contains(document.activeElement)) part.innerHTML = html;
  }
  state.textContent = "Live";
});
stream.addEventListener("error", () => { state.textContent = "Waiting for the connection"; });
