// Shows the frame of the point where the mouse rests, and opens its task on a click.
"use strict";

const REST_MS = 80; // so that a mouse on its way asks for nothing
const map = document.querySelector(".map");
if (map) {
  const figure = map.querySelector("figure");
  let waiting;
  const show = (point) => {
    figure.querySelector("img").src = map.dataset.frames + point.id.slice(1);
    figure.querySelector("figcaption").textContent = point.querySelector("title").textContent;
    figure.hidden = false;
  };
  map.addEventListener("mouseover", (event) => {
    clearTimeout(waiting);
    const point = event.target.closest("use[id]");
    if (point) waiting = setTimeout(show, REST_MS, point);
  });
  map.addEventListener("click", (event) => {
    const point = event.target.closest("use[id]");
    if (point) location.assign(map.dataset.tasks + point.id.slice(1));
  });
}
