"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    // Texts of the run only ever become text nodes: they cannot turn into markup.
    element.append(...children.filter((child) => child !== null));
    return element;
  };

  const island = (id) => JSON.parse(byId(id).textContent);
  const whole = byId("pictures-data") ? island("pictures-data") : null;
  const picture = (name, alt, className = "") => {
    if (name === null) return make("span", { className: "gone" }, "not readable");
    // Not lazily: what has not been scrolled to would be missing on paper.
    const image = make("img", { alt, decoding: "async", className });
    image.addEventListener("load", () => sharpen(image));
    image.addEventListener("error", missing);
    image.src = whole ? whole[name] : `images/${name}`;
    return image;
  };
  // The page was passed on without its folder of pictures.
  const missing = () => { byId("lost-pictures").hidden = false; };
  // Small images are enlarged as pixels, not blurred.
  const sharpen = (image) => image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) <= 64);
  for (const image of document.querySelectorAll("img")) {
    image.addEventListener("error", missing);
    if (!image.complete) image.addEventListener("load", () => sharpen(image));
    else if (image.naturalWidth) sharpen(image);
    else if (image.currentSrc) missing();
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

  // On paper nothing is closed.
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details:not([open])")) {
      details.open = true;
      details.dataset.printed = "";
    }
  });
  window.addEventListener("afterprint", () => {
    for (const details of document.querySelectorAll("details[data-printed]")) {
      details.open = false;
      delete details.dataset.printed;
    }
  });

  const errors = island("errors-data");
  if (errors !== null) drawErrors(errors);

  // Confusions: a matrix where the classes are few, the cells that matter most where they are many.
  function drawErrors(found) {
    const arm = byId("matrix-arm"), kind = byId("matrix-kind"), body = byId("matrix-body");
    const cells = found.cells.map((list) => new Map(list.map(([t, p, n]) => [`${t}-${p}`, n])));
    const behind = new Map();
    found.images.forEach((image, place) => {
      for (const said of new Set(image.said.flat())) {
        if (said === image.label) continue;
        const cell = `${image.label}-${said}`;
        behind.set(cell, [...(behind.get(cell) ?? []), place]);
      }
    });
    let chosen = null;
    const count = (which, cell) => cells[which].get(cell) ?? 0;
    const shown = (cell) => (kind.value === "change" ? count(Number(arm.value), cell) - count(0, cell) : count(Number(arm.value), cell));
    const number = (value) => (kind.value === "change" && value > 0 ? "+" : "") + (Number.isInteger(value) ? value : value.toFixed(1));

    function drawCell(true_, said, most) {
      const cell = `${true_}-${said}`, value = shown(cell);
      const text = Math.abs(value) < 0.05 ? "" : number(value);
      const label = `${found.classes[true_]} taken for ${found.classes[said]}: ${number(value)}`;
      const content = behind.has(cell) ? make("button", { type: "button", title: label }, text || "·") : make("span", { title: label }, text);
      if (behind.has(cell)) {
        content.setAttribute("aria-label", `${label}; show the images`);
        content.setAttribute("aria-pressed", String(chosen === cell));
        content.addEventListener("click", () => { chosen = cell; draw(); drawImages(cell); });
      }
      const place = make("td", {}, content);
      // More errors than the first arm are warm, fewer are cool; right ones are no errors.
      const good = kind.value === "change" ? (true_ === said ? value > 0 : value < 0) : true_ === said;
      // No stronger, so that the number on it can be read in the dark too.
      const share = Math.min(45, Math.round((45 * Math.abs(value)) / (most || 1)));
      if (text) place.style.background = `color-mix(in srgb, var(${good ? "--accent" : "--series-2"}) ${share}%, transparent)`;
      return place;
    }

    function draw() {
      const labels = found.classes.map((_, label) => label);
      const errorsOnly = (cell) => { const [t, p] = cell.split("-"); return t !== p; };
      const all = [...new Set([...cells[Number(arm.value)].keys(), ...cells[0].keys()])].filter(errorsOnly);
      const most = Math.max(0, ...all.map((cell) => Math.abs(shown(cell))));
      if (found.whole) {
        const head = make("tr", {}, make("th", { scope: "col" }, "is \\ taken for"), ...labels.map((label) => make("th", { scope: "col" }, found.classes[label])));
        const rows = labels.map((t) => make("tr", {}, make("th", { scope: "row" }, found.classes[t]), ...labels.map((p) => drawCell(t, p, most))));
        body.replaceChildren(make("table", { className: "narrow" }, make("thead", {}, head), make("tbody", {}, ...rows)));
      } else {
        const top = all.sort((a, b) => Math.abs(shown(b)) - Math.abs(shown(a))).slice(0, 60);
        const rows = top.map((cell) => {
          const [t, p] = cell.split("-").map(Number);
          return make("tr", {}, make("th", { scope: "row" }, `${found.classes[t]} → ${found.classes[p]}`), drawCell(t, p, most));
        });
        body.replaceChildren(make("table", { className: "narrow" }, make("tbody", {}, ...rows)));
      }
      const seeds = found.seeds[Number(arm.value)];
      byId("matrix-legend").textContent = (kind.value === "change"
        ? `${found.arms[Number(arm.value)]} minus ${found.arms[0]}, images a seed. `
        : `Images a seed, mean over ${seeds} ${seeds === 1 ? "seed" : "seeds"}. `) + "Choose an underlined cell to see test images behind it.";
    }

    function drawImages(cell) {
      const [t, p] = cell.split("-").map(Number);
      const places = behind.get(cell) ?? [];
      const told = (image) => found.arms.map((name, which) => {
        const tally = new Map();
        for (const said of image.said[which]) tally.set(said, (tally.get(said) ?? 0) + 1);
        const answers = [...tally].sort((a, b) => b[1] - a[1]).map(([said, times]) => found.classes[said] + (image.said[which].length > 1 ? ` ×${times}` : ""));
        return `${name}: ${answers.join(", ")}`;
      });
      const figures = places.map((place) => {
        const image = found.images[place];
        const lines = told(image).flatMap((line) => [line, make("br")]);
        return make("figure", {}, picture(image.image, `test image ${image.key}`), make("figcaption", {}, make("strong", {}, image.key), make("br"), ...lines));
      });
      byId("matrix-images").replaceChildren(
        make("h3", {}, `${found.classes[t]}, taken for ${found.classes[p]}`),
        make("p", { className: "quiet" }, `${places.length} test images that some model takes so; what every arm says of them, over its seeds.`),
        make("div", { className: "strip" }, ...figures));
    }

    byId("matrix-choice").addEventListener("submit", (event) => event.preventDefault());
    for (const control of [arm, kind]) control.addEventListener("input", draw);
    byId("matrix").hidden = false;
    draw();
  }

  const gallery = island("gallery-data");
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
    lines.push(["seed", group.seed], ["prompt", gallery.prompts[row.prompt]], ["key", row.key]);
    if (row.rejected) lines.push(["rejected", "by a person, and left out"]);
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
    const number = (count) => count.toLocaleString("en");
    byId("gallery-count").textContent = found.length
      ? `${number(images)} of ${number(gallery.shown)} rows shown here, in ${number(found.length)} of ${number(gallery.groups.length)} groups; the run has ${number(gallery.of)} rows that were tried`
      : `Nothing of the ${number(gallery.shown)} rows shown here, of ${number(gallery.of)} that were tried, fits these filters.`;
    remember();
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
    if (row.rejected) caption.append(make("br"), "rejected");
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

  // What is chosen here is copied into a file for `augcond reject`; the page itself changes nothing.
  const chosen = new Set();
  function choose(key) {
    if (!chosen.delete(key)) chosen.add(key);
    byId("rejects").hidden = chosen.size === 0;
    byId("rejects-keys").value = [...chosen].map((one) => `${one}\n`).join("");
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
    const reject = make("button", { type: "button" });
    const say = () => { reject.textContent = chosen.has(row.key) ? "Take off the list to reject" : "Put on the list to reject"; };
    reject.addEventListener("click", () => { choose(row.key); say(); });
    say();
    byId("detail-body").replaceChildren(
      make("h2", { id: "detail-title" }, `${className(group.label)} by ${gallery.recipes[row.recipe]}`),
      make("div", { className: "pair" }, large, side), list, ...(row.error === null && !row.rejected ? [reject] : []));
    byId("detail").showModal();
  }

  byId("detail").addEventListener("click", (event) => { if (event.target === byId("detail")) byId("detail").close(); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const control of Object.values(filters)) control.addEventListener("input", () => { page = 0; draw(); });
  // Filters stand in the address, so that what is seen can be passed on.
  function remember() {
    const kept = new URLSearchParams();
    for (const [name, control] of [["class", filters.klass], ["status", filters.status]]) if (control.value) kept.set(name, control.value);
    if (filters.recipe.value !== "") kept.set("recipe", gallery.recipes[Number(filters.recipe.value)]);
    if (page) kept.set("page", String(page + 1));
    const text = kept.toString();
    if (text || location.hash.startsWith("#gallery?")) history.replaceState(null, "", text ? `#gallery?${text}` : "#gallery");
  }
  function recall() {
    if (!location.hash.startsWith("#gallery?")) return false;
    const kept = new URLSearchParams(location.hash.slice("#gallery?".length));
    filters.klass.value = kept.get("class") ?? "";
    const recipe = gallery.recipes.indexOf(kept.get("recipe"));
    filters.recipe.value = recipe < 0 ? "" : String(recipe);
    filters.status.value = ["ok", "failed"].includes(kept.get("status")) ? kept.get("status") : "";
    page = Math.max(0, (parseInt(kept.get("page"), 10) || 1) - 1);
    return true;
  }
  window.addEventListener("hashchange", () => { if (recall()) draw(); });
  const turn = (step) => { page += step; draw(); byId("gallery-count").scrollIntoView({ block: "center" }); };
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  const recalled = recall();
  draw();
  if (recalled) byId("gallery").scrollIntoView();
})();
