// Puts what the server sends in its place. A part that has the focus waits until it has it no more.
"use strict";
const stream = new EventSource("/console/now/live");
const state = document.querySelector("[data-live-state]");
stream.addEventListener("parts", (event) => {
  const parts = JSON.parse(event.data);
  for (const place of document.querySelectorAll("[data-live]")) {
    const html = parts[place.dataset.live];
    if (html !== undefined && !place.contains(document.activeElement)) place.innerHTML = html;
  }
  state.textContent = "Live";
});
stream.addEventListener("error", () => { state.textContent = "Waiting for the connection"; });
