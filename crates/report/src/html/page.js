// The page without figures: what is closed opens for print and for links into it; the contents follow the reader.
"use strict";
(() => {
  const all = (selector) => document.querySelectorAll(selector);
  const contents = document.querySelector("nav > details");
  // On a narrow screen the contents would push the report away.
  const narrow = matchMedia("(max-width: 68rem)");
  const fold = () => { contents.open = !narrow.matches; };
  fold();
  narrow.addEventListener("change", fold);

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...all("main details:not([open])")];
    closed.forEach((d) => { d.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((d) => { d.open = false; }));

  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let d = target.closest("details"); d; d = d.parentElement.closest("details")) d.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();

  const links = new Map([...all("nav a")].map((a) => [a.hash.slice(1), a]));
  const seen = new Set();
  const order = [...all("main [id]")].filter((e) => links.has(e.id));
  const watch = new IntersectionObserver((entries) => {
    for (const e of entries) e.isIntersecting ? seen.add(e.target) : seen.delete(e.target);
    const first = order.find((e) => seen.has(e));
    if (!first) return;
    links.forEach((a) => a.removeAttribute("aria-current"));
    links.get(first.id).setAttribute("aria-current", "true");
  }, { rootMargin: "0px 0px -60% 0px" });
  order.forEach((e) => watch.observe(e));
})();
