"use strict";
(() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.hidden = false;
  name();
  button.onclick = () => { root.dataset.theme = dark() ? "light" : "dark"; name(); };

  const tip = document.getElementById("tip");
  const show = (text, event) => {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect(), room = 12;
    const left = Math.min(event.clientX + room, innerWidth - box.width - 4);
    const top = event.clientY - box.height - room;
    tip.style.left = Math.max(4, left) + "px";
    tip.style.top = (top < 4 ? event.clientY + room : top) + "px";
  };
  const round = (value) => Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
  const scale = (text) => {
    const [low, high, first, last] = text.split(" ").map(Number);
    return (pixel) => low + (pixel - first) / (last - first) * (high - low);
  };
  const points = (path) => path.getAttribute("d").slice(1).split("L").map((each) => each.split(" ").map(Number));
  let shown = null;
  const hide = () => {
    tip.hidden = true;
    if (shown) shown.style.visibility = "";
    shown = null;
  };
  const move = (event) => {
    const target = event.target instanceof Element ? event.target : null;
    const told = target && target.closest("[data-t]");
    if (told) { hide(); show(told.dataset.t, event); return; }
    const chart = target && target.closest("svg.lines");
    if (!chart) { hide(); return; }
    const box = chart.getBoundingClientRect(), view = chart.viewBox.baseVal;
    const at = (event.clientX - box.left) / box.width * view.width;
    const x = scale(chart.dataset.x), y = scale(chart.dataset.y);
    let nearest = null;
    const read = [...chart.querySelectorAll("path.line:not(.faint)")].map((path) => {
      const best = points(path).reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a);
      if (nearest === null || Math.abs(best[0] - at) < Math.abs(nearest - at)) nearest = best[0];
      return [path.dataset.n, best];
    });
    if (nearest === null) { hide(); return; }
    const cursor = chart.querySelector(".cursor"), line = cursor.firstChild;
    if (shown && shown !== cursor) shown.style.visibility = "";
    line.setAttribute("x1", nearest);
    line.setAttribute("x2", nearest);
    cursor.style.visibility = "visible";
    shown = cursor;
    const place = chart.dataset.u === "step" ? Math.round(x(nearest)).toLocaleString("en") : round(x(nearest));
    show([chart.dataset.u + " " + place, ...read.map(([label, best]) => label + "  " + round(y(best[1])))].join("\n"), event);
  };
  addEventListener("pointermove", move);
  addEventListener("pointerdown", move);
  addEventListener("scroll", hide, true);
  document.addEventListener("pointerleave", hide);
})();
