"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    // Texts of the run only ever become text nodes: they cannot turn into markup.
    element.append(...children.filter((child) => child !== null));
    return element;
  };

  const picture = (name, alt, className = "") => {
    if (name === null) return make("span", { className: "gone" }, "not readable");
    const image = make("img", { alt, loading: "lazy", decoding: "async", className });
    image.addEventListener("load", () => sharpen(image));
    image.src = `images/${name}`;
    return image;
  };
  // Small images are enlarged as pixels, not blurred.
  const sharpen = (image) => image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) <= 64);
  for (const image of document.querySelectorAll("img")) {
    if (image.complete) sharpen(image);
    else image.addEventListener("load", () => sharpen(image));
  }

  for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);

  function makeSortable(table) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      const numeric = header.classList.contains("n");
      const button = make("button", { type: "button" }, ...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const descending = header.getAttribute("aria-sort") === "descending" ? false
          : header.getAttribute("aria-sort") === "ascending" ? true : numeric;
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        header.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const value = (row) => {
          const text = row.cells[column].textContent;
          return numeric ? parseFloat(text.replace(/[,+]/g, "")) || 0 : text;
        };
        const compare = numeric ? (a, b) => value(a) - value(b) : (a, b) => value(a).localeCompare(value(b));
        body.append(...[...body.rows].sort((a, b) => (descending ? compare(b, a) : compare(a, b))));
      });
    });
  }

  const links = [...document.querySelectorAll("nav a")];
  if ("IntersectionObserver" in window) {
    const observer = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        for (const link of links) {
          if (link.hash === `#${entry.target.id}`) link.setAttribute("aria-current", "true");
          else link.removeAttribute("aria-current");
        }
      }
    }, { rootMargin: "-30% 0px -60% 0px" });
    for (const section of document.querySelectorAll("main section")) observer.observe(section);
  }

  const gallery = JSON.parse(byId("gallery-data").textContent);
  if (!gallery.groups.length) return;
  const PAGE = gallery.recipes.length > 3 ? 8 : 18;
  const filters = { klass: byId("filter-class"), recipe: byId("filter-recipe"), status: byId("filter-status") };
  const className = (label) => gallery.classes[label][1];
  let page = 0;

  const shown = new Set(gallery.groups.map((group) => group.label));
  byId("class-list").append(...[...shown].sort((a, b) => a - b).map((label) => {
    const [id, name] = gallery.classes[label];
    return make("option", { value: name }, id === name ? "" : id);
  }));

  function facts(group, row) {
    const lines = [["class", className(group.label)], ["recipe", gallery.recipes[row.recipe]], ["index", group.index]];
    if (row.lam !== null) lines.push(["λ", row.lam.toFixed(3)]);
    if (row.share !== null) lines.push(["share of source 1", row.share.toFixed(3)]);
    if (row.weights.length > 2) lines.push(["weights", row.weights.join(", ")]);
    lines.push(["seed", group.seed], ["prompt", gallery.prompts[row.prompt]]);
    if (row.error !== null) lines.push(["error", row.error]);
    return lines;
  }

  const matching = () => {
    const wanted = filters.klass.value.trim().toLowerCase();
    const exact = gallery.classes.some((names) => names.some((name) => name.toLowerCase() === wanted));
    const fits = (name) => (exact ? name.toLowerCase() === wanted : name.toLowerCase().includes(wanted));
    const result = [];
    for (const group of gallery.groups) {
      if (wanted && !gallery.classes[group.label].some(fits)) continue;
      const rows = group.rows.filter((row) =>
        (filters.recipe.value === "" || row.recipe === Number(filters.recipe.value)) &&
        (filters.status.value === "" || (row.error === null) === (filters.status.value === "ok")));
      if (rows.length) result.push({ group, rows });
    }
    return result;
  };

  function draw() {
    hideTip();
    const found = matching();
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(page, pages - 1);
    byId("groups").replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(drawGroup));
    const images = found.reduce((sum, entry) => sum + entry.rows.length, 0);
    byId("gallery-count").textContent = found.length
      ? `${images.toLocaleString("en")} images in ${found.length.toLocaleString("en")} groups`
      : "Nothing in this sample fits these filters.";
    byId("place").textContent = `page ${page + 1} of ${pages}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page === pages - 1;
    byId("previous").parentElement.hidden = pages === 1;
  }

  function drawGroup({ group, rows }) {
    const strip = make("div", { className: "strip" });
    const sources = group.sources.slice(0, Math.max(...rows.map((row) => row.sources)));
    sources.forEach(([name, key], place) => strip.append(make("figure", { className: "source" },
      picture(name, `source image ${key}`), make("figcaption", {}, `source ${place + 1}`))));
    if (sources.length) strip.append(Object.assign(make("span", { className: "arrow" }, "→"), { ariaHidden: "true" }));
    for (const row of rows) strip.append(drawRow(group, row));
    return make("li", {}, make("h3", {}, className(group.label), make("span", { className: "quiet" }, ` ${group.index}`)), strip);
  }

  function drawRow(group, row) {
    const recipe = gallery.recipes[row.recipe];
    const label = `${className(group.label)}, ${recipe}, image ${group.index}`;
    const content = row.error === null ? picture(row.image, label) : make("span", { className: "failed" }, `failed: ${row.error}`);
    const button = make("button", { type: "button" }, content);
    button.setAttribute("aria-label", row.error === null ? `${label}: details` : `${label}, failed: details`);
    button.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") showTip(button, group, row); });
    button.addEventListener("pointerleave", hideTip);
    button.addEventListener("focus", () => { if (button.matches(":focus-visible")) showTip(button, group, row); });
    button.addEventListener("blur", hideTip);
    button.addEventListener("click", () => openDetail(group, row));
    const caption = make("figcaption", {}, recipe);
    if (row.lam !== null) caption.append(make("br"), `λ ${row.lam.toFixed(2)}`);
    return make("figure", {}, button, caption);
  }

  function showTip(button, group, row) {
    const tip = byId("tip");
    tip.textContent = facts(group, row).map(([name, value]) => `${name}: ${value}`).join("\n");
    tip.hidden = false;
    button.setAttribute("aria-describedby", "tip");
    const place = button.getBoundingClientRect();
    const left = Math.min(place.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
    const above = place.top - tip.offsetHeight - 8;
    tip.style.left = `${Math.max(8, left) + window.scrollX}px`;
    tip.style.top = `${(above > 56 ? above : place.bottom + 8) + window.scrollY}px`;
  }

  function hideTip() {
    byId("tip").hidden = true;
    document.querySelector("[aria-describedby=tip]")?.removeAttribute("aria-describedby");
  }

  function openDetail(group, row) {
    hideTip();
    const list = make("dl");
    for (const [name, value] of facts(group, row)) list.append(make("dt", {}, name), make("dd", {}, String(value)));
    group.sources.slice(0, row.sources).forEach(([, key], place) =>
      list.append(make("dt", {}, `source ${place + 1}`), make("dd", {}, key)));
    const side = make("div", { className: "side" },
      ...group.sources.slice(0, row.sources).map(([name, key]) => picture(name, `source image ${key}`)));
    const large = row.error === null
      ? picture(row.image, "generated image", "large") : make("span", { className: "failed" }, `failed: ${row.error}`);
    byId("detail-body").replaceChildren(
      make("h2", { id: "detail-title" }, `${className(group.label)} by ${gallery.recipes[row.recipe]}`),
      make("div", { className: "pair" }, large, side), list);
    byId("detail").showModal();
  }

  byId("detail").addEventListener("click", (event) => { if (event.target === byId("detail")) byId("detail").close(); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const control of Object.values(filters)) control.addEventListener("input", () => { page = 0; draw(); });
  const turn = (step) => { page += step; draw(); byId("gallery-count").scrollIntoView({ block: "center" }); };
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  draw();
})();
