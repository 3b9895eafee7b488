// What a pointer can ask of the figures: values, a framework less, a closer look at the run. Nothing depends on it.
"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "status");
  document.body.append(tip);

  // A mark says what stands in its title; two tips at once would be one too many.
  for (const mark of all(".chart .mk")) {
    const title = mark.querySelector("title");
    if (title) { mark.dataset.tip = title.textContent; title.remove(); }
  }
  for (const chart of all("svg.chart[aria-labelledby]")) {
    const title = chart.querySelector(":scope > title");
    if (title) { chart.setAttribute("aria-label", title.textContent); chart.removeAttribute("aria-labelledby"); title.remove(); }
  }
  let shown = [];
  const hide = () => { tip.hidden = true; shown.forEach((m) => m.classList.remove("at")); shown = []; };
  const show = (marks, x, y) => {
    if (marks.length !== shown.length || marks.some((m, i) => m !== shown[i])) {
      hide();
      shown = marks;
      shown.forEach((m) => m.classList.add("at"));
      tip.textContent = marks.map((m) => m.dataset.tip).join("\n\n");
    }
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = Math.max(4, Math.min(x + 12, innerWidth - box.width - 4));
    tip.style.left = `${left}px`;
    tip.style.top = `${y + 16 + box.height > innerHeight ? Math.max(4, y - box.height - 12) : y + 16}px`;
  };
  // Marks that lie on each other all speak.
  const MOST = 4;
  const under = (e) => {
    const marks = document.elementsFromPoint(e.clientX, e.clientY).map((n) => n.closest(".chart [data-tip]"));
    return [...new Set(marks.filter(Boolean))].slice(0, MOST);
  };
  const point = (e, leaves) => {
    const marks = under(e);
    if (marks.length) show(marks, e.clientX, e.clientY); else if (leaves) hide();
  };
  document.addEventListener("pointermove", (e) => point(e, e.pointerType === "mouse"));
  document.addEventListener("pointerdown", (e) => point(e, true));
  addEventListener("scroll", hide, { passive: true });
  addEventListener("beforeprint", hide);

  // By keyboard: into a chart, then from mark to mark.
  for (const chart of all("svg.chart[role=img]")) {
    const marks = all("[data-tip]", chart);
    if (!marks.length) continue;
    chart.setAttribute("tabindex", "0");
    let at = -1;
    chart.addEventListener("keydown", (e) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
      if (e.key === "Escape") hide();
      if (!step) return;
      e.preventDefault();
      at = at < 0 && step < 0 ? marks.length - 1 : (at + step + marks.length) % marks.length;
      const box = marks[at].getBoundingClientRect();
      show([marks[at]], box.left + box.width / 2, box.top + box.height / 2);
    });
    chart.addEventListener("blur", hide);
  }

  // A framework less, in all figures.
  for (const key of all(".legend .lk")) {
    key.setAttribute("role", "button");
    key.setAttribute("tabindex", "0");
    key.setAttribute("aria-pressed", "true");
    const toggle = () => {
      const off = key.classList.contains("off") ? false : true;
      const fw = key.dataset.fw;
      for (const k of all(`.lk[data-fw="${fw}"]`)) {
        k.classList.toggle("off", off);
        k.setAttribute("aria-pressed", String(!off));
      }
      for (const g of all(`.chart g[data-fw="${fw}"]`)) g.classList.toggle("fw-off", off);
    };
    key.addEventListener("click", toggle);
    key.addEventListener("keydown", (e) => {
      if (e.key === "Enter" || e.key === " ") { e.preventDefault(); toggle(); }
    });
  }

  // A closer look at the run.
  for (const zoom of all("svg.zoom")) {
    const chart = zoom.parentNode;
    const [, , domain, height] = zoom.getAttribute("viewBox").split(" ").map(Number);
    const left = Number(zoom.dataset.left);
    const bottom = Number(zoom.dataset.bottom);
    const width = Number(zoom.getAttribute("width"));
    const pieces = zoom.dataset.pieces.split(";").map((p) => p.split(",").map(Number));
    const labels = all(".zl", chart).map((e) => ({ e, says: e.textContent, x: e.getAttribute("x"), seen: e.getAttribute("visibility") }));
    const axis = chart.querySelector(".zt");
    const whole = axis.innerHTML;
    const make = (name, attributes) => {
      const e = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
      return e;
    };
    const say = (s) => {
      const h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60, rest = Math.round((s % 60) * 10) / 10;
      return [h ? `${h} h` : "", m ? `${m} min` : "", rest || !(h || m) ? `${rest} s` : ""].filter(Boolean).join(" ");
    };
    const reset = document.createElement("button");
    reset.type = "button";
    reset.className = "zoomreset";
    reset.textContent = "Show the whole run";
    reset.hidden = true;
    chart.parentNode.after(reset);
    let seen = [0, domain];
    const look = (from, to) => {
      [from, to] = [Math.max(0, from), Math.min(domain, to)];
      seen = [from, to];
      const full = from <= 0 && to >= domain;
      reset.hidden = full;
      zoom.setAttribute("viewBox", `${from} 0 ${to - from} ${height}`);
      if (full) {
        axis.innerHTML = whole;
        for (const l of labels) {
          l.e.textContent = l.says;
          l.e.setAttribute("x", l.x);
          if (l.seen) l.e.setAttribute("visibility", l.seen); else l.e.removeAttribute("visibility");
        }
        return;
      }
      const scale = width / (to - from);
      for (const { e } of labels) {
        const a = Math.max(Number(e.dataset.a), from), b = Math.min(Number(e.dataset.b), to);
        const room = (b - a) * scale - 4;
        e.textContent = e.dataset.says;
        const fits = room > 34 && e.getComputedTextLength() <= room;
        e.setAttribute("visibility", fits ? "visible" : "hidden");
        if (fits) e.setAttribute("x", left + ((a + b) / 2 - from) * scale);
      }
      axis.replaceChildren();
      const seconds = pieces.reduce((n, [s, t, x, y]) => n + Math.max(0, Math.min(y, to) - Math.max(x, from)) / (y - x) * (t - s), 0);
      const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400].find((s) => s >= seconds / 8) || 86400;
      for (const [s, t, x, y] of pieces) {
        for (let i = Math.ceil(s / step); i * step <= t; i += 1) {
          const at = x + (i * step - s) / (t - s) * (y - x);
          if (at < from || at > to) continue;
          const px = left + (at - from) * scale;
          axis.append(make("path", { class: "axis", d: `M${px} ${bottom}v4` }));
          const text = make("text", { class: "m s", x: px, y: bottom + 15, "text-anchor": "middle" });
          text.textContent = say(i * step);
          axis.append(text);
        }
      }
    };
    const place = (e) => {
      const box = chart.getBoundingClientRect();
      const px = (e.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
      const view = zoom.viewBox.baseVal;
      return view.x + Math.max(0, Math.min(1, (px - left) / width)) * view.width;
    };
    let start = null, selection = null;
    chart.addEventListener("pointerdown", (e) => { if (e.button === 0 && e.pointerType === "mouse") start = place(e); });
    addEventListener("pointermove", (e) => {
      if (start === null) return;
      const now = place(e);
      if (!selection) { selection = make("rect", { class: "sel", y: 0, height: bottom }); zoom.append(selection); }
      selection.setAttribute("x", Math.min(start, now));
      selection.setAttribute("width", Math.abs(now - start));
    });
    addEventListener("pointerup", (e) => {
      if (start === null) return;
      const now = place(e), from = Math.min(start, now), to = Math.max(start, now);
      start = null;
      if (selection) selection.remove();
      selection = null;
      if (to - from > zoom.viewBox.baseVal.width / 100) look(from, to);
    });
    chart.addEventListener("dblclick", () => look(0, domain));
    reset.addEventListener("click", () => look(0, domain));
    chart.addEventListener("keydown", (e) => {
      const by = { "+": 0.5, "=": 0.5, "-": 2, "0": Infinity }[e.key];
      if (!by || e.ctrlKey || e.metaKey) return;
      e.preventDefault();
      const [from, to] = seen, mark = shown.find((m) => zoom.contains(m)), box = mark && mark.getBoundingClientRect();
      hide();
      if (by === Infinity) { look(0, domain); return; }
      // Around the mark that was shown, else around the middle.
      const middle = box ? place({ clientX: box.left + box.width / 2 }) : (from + to) / 2;
      const wide = Math.min(domain, Math.max((to - from) * by, domain / 1000));
      const start = Math.max(0, Math.min(domain - wide, middle - wide / 2));
      look(start, start + wide);
    });
    // On paper nothing is left out.
    let before = seen;
    addEventListener("beforeprint", () => { before = seen; look(0, domain); });
    addEventListener("afterprint", () => look(...before));
  }
})();
