// What a page gains with scripts on: sorted and filtered tables, read-outs, downloads, the threshold
// slider. All of it can be read without.
"use strict";
(function () {
  const all = (selector, root) => Array.from((root || document).querySelectorAll(selector));

  function element(name, attributes, text) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      made.setAttribute(key, value);
    }
    if (text !== undefined) {
      made.textContent = text;
    }
    return made;
  }

  // "1,234", "69.3 %", a minus sign that is no hyphen; NaN for what is no number.
  function numberOf(text) {
    const plain = text.trim().replace(/,/g, "").replace("\u2212", "-").replace(/^under /, "");
    return /^-?[\d.]+(e[-+]?\d+)?\s*%?$/.test(plain) ? parseFloat(plain) : NaN;
  }

  function compareCells(a, b) {
    const x = numberOf(a), y = numberOf(b);
    if (!isNaN(x) && !isNaN(y)) {
      return x - y;
    }
    if (!isNaN(x) || !isNaN(y)) {
      return isNaN(x) ? 1 : -1;
    }
    return a.localeCompare(b);
  }

  // ---- Tables: a click on a heading sorts, once more turns round; long ones have a filter box.

  function sortBy(table, column) {
    const headings = all("thead th", table);
    const heading = headings[column];
    const numeric = heading.classList.contains("num");
    const before = heading.getAttribute("aria-sort");
    const down = before ? before === "ascending" : numeric;
    const body = table.tBodies[0];
    const text = (row) => (row.cells[column] ? row.cells[column].textContent : "");
    const rows = Array.from(body.rows).sort((a, b) => {
      const order = compareCells(text(a), text(b));
      return down ? -order : order;
    });
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    rows.forEach((row) => body.appendChild(row));
  }

  function makeSortable(table) {
    all("thead th", table).forEach((heading, column) => {
      if (!heading.textContent) {
        return;
      }
      const button = element("button", { type: "button" }, heading.textContent);
      button.addEventListener("click", () => sortBy(table, column));
      heading.replaceChildren(button);
    });
  }

  function addFilter(before, things, label) {
    const box = element("input", { type: "search", class: "filter", placeholder: label,
                                   "aria-label": label });
    box.addEventListener("input", () => {
      const wanted = box.value.toLowerCase();
      things().forEach((thing) => {
        thing.hidden = !thing.textContent.toLowerCase().includes(wanted);
      });
    });
    before.parentNode.insertBefore(box, before);
  }

  // ---- Downloads: a chart as SVG that stands alone, its table as CSV.

  function save(name, type, content) {
    const url = URL.createObjectURL(new Blob([content], { type }));
    const link = element("a", { href: url, download: name });
    document.body.appendChild(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  function fileName(figure, ending) {
    const heading = figure.closest("section");
    const title = all("figcaption b", figure)[0];
    return ["saerl", heading ? heading.id : "", title ? title.textContent : ""]
      .join(" ").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") + ending;
  }

  // What is not known is an empty cell. A quote before = + - @ keeps spreadsheets from taking a text for a formula.
  function csvCell(text) {
    if (text.trim() === "\u2013") {
      return "";
    }
    const isNumber = !isNaN(numberOf(text));
    let value = isNumber
      ? text.trim().replace(/,/g, "").replace("\u2212", "-").replace(/\s*%$/, "%") : text;
    if (!isNumber && /^[=+\-@\t\r]/.test(value)) {
      value = "'" + value;
    }
    return /[",\n\r]/.test(value) ? '"' + value.replace(/"/g, '""') + '"' : value;
  }

  function csvOf(table) {
    return Array.from(table.rows)
      .map((row) => Array.from(row.cells).map((cell) => csvCell(cell.textContent)).join(","))
      .join("\r\n") + "\r\n";
  }

  const painted = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin",
                   "paint-order", "opacity", "font-family", "font-size", "font-weight",
                   "text-anchor"];

  // Classes mean nothing outside of the page, so what they come to is written into attributes.
  function standaloneSvg(svg) {
    const copy = svg.cloneNode(true);
    const from = all("*", svg), to = all("*", copy);
    const size = svg.viewBox.baseVal;
    from.forEach((node, i) => {
      if (/^(path|rect|line|circle|text|tspan)$/.test(node.tagName)) {
        const style = getComputedStyle(node);
        painted.forEach((name) => to[i].setAttribute(name, style.getPropertyValue(name)));
      }
      // url(#id) is computed to one with the page's address.
      if (node.getAttribute("fill") && node.getAttribute("fill").startsWith("url(")) {
        to[i].setAttribute("fill", node.getAttribute("fill"));
      }
      if (node.hasAttribute("data-words")) {
        const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
        title.textContent = node.getAttribute("data-words");
        to[i].removeAttribute("data-words");
        to[i].prepend(title);
      }
    });
    copy.setAttribute("width", size.width);
    copy.setAttribute("height", size.height);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    ground.setAttribute("width", "100%");
    ground.setAttribute("height", "100%");
    ground.setAttribute("fill", getComputedStyle(document.body).backgroundColor);
    copy.prepend(ground);
    return new XMLSerializer().serializeToString(copy);
  }

  function addTools(figure) {
    const svg = all("svg.chart:not(.narrow)", figure)[0], table = all("table", figure)[0];
    const tools = element("div", { class: "tools" });
    function add(label, what, action) {
      const button = element("button", { type: "button", "aria-label": what }, label);
      button.addEventListener("click", action);
      tools.appendChild(button);
    }
    if (svg) {
      add("SVG", "Download this chart as SVG",
          () => save(fileName(figure, ".svg"), "image/svg+xml", standaloneSvg(svg)));
    }
    if (table) {
      add("CSV", "Download the table behind this chart as CSV",
          () => save(fileName(figure, ".csv"), "text/csv", csvOf(table)));
    }
    if (tools.childNodes.length) {
      figure.appendChild(tools);
    }
  }

  // ---- Read-outs: the titles of marks, at once and beside the pointer.

  function addReadouts() {
    const tip = element("div", { class: "tip", hidden: "", "aria-hidden": "true" });
    document.body.appendChild(tip);
    all("svg.chart :not(svg) > title").forEach((title) => {
      title.parentNode.setAttribute("data-words", title.textContent);
      title.remove();
    });
    document.addEventListener("pointermove", (event) => {
      const over = event.target.closest ? event.target.closest("[data-words]") : null;
      tip.hidden = !over;
      if (!over) {
        return;
      }
      tip.textContent = over.getAttribute("data-words");
      const x = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
      const y = event.clientY - tip.offsetHeight - 10;
      tip.style.transform = "translate(" + Math.max(8, x) + "px," +
        (y < 8 ? event.clientY + 18 : y) + "px)";
    });
    document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
  }

  // A name in the legend of the map, pointed at, dims all other clusters.
  function addHighlights(figure) {
    if (!figure.querySelector(".place")) {
      return;
    }
    all(".key", figure).forEach((key) => {
      const group = Array.from(key.classList).find((name) => /^s\d$/.test(name));
      const dim = (on) => all("svg.chart path", figure).forEach((cell) => {
        cell.classList.toggle("dim", on && !cell.classList.contains(group));
      });
      key.addEventListener("pointerenter", () => dim(true));
      key.addEventListener("pointerleave", () => dim(false));
    });
  }

  // ---- The threshold slider: shares from 201 quantiles, bars below the threshold fade.

  function shareBelow(quantiles, x) {
    const last = quantiles.length - 1;
    let i = 0;
    if (x <= quantiles[0]) {
      return 0;
    }
    if (x > quantiles[last]) {
      return 1;
    }
    while (i < last && quantiles[i + 1] < x) {
      i++;
    }
    const width = quantiles[i + 1] - quantiles[i];
    return (i + (width > 0 ? (x - quantiles[i]) / width : 0)) / last;
  }

  function addSlider() {
    const holder = document.getElementById("quality-data");
    const slider = document.getElementById("quality-slider");
    if (!holder || !slider) {
      return;
    }
    const data = JSON.parse(holder.textContent);
    const lowest = data.quantiles[0], highest = data.quantiles[data.quantiles.length - 1];
    const output = document.getElementById("quality-output");
    // The chart, and the same for a phone.
    const charts = all("#quality-chart, #quality-chart-narrow").map((chart) => {
      const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      line.setAttribute("class", "what-if");
      chart.appendChild(line);
      return { bins: all(".bin", chart), line };
    });
    // Into the bin that holds x, as far as x is into it.
    function moveLine({ bins, line }, x) {
      for (const bin of bins) {
        const from = parseFloat(bin.getAttribute("data-from"));
        const to = parseFloat(bin.getAttribute("data-to"));
        if (x <= to || bin === bins[bins.length - 1]) {
          const field = all(".hit", bin)[0];
          const left = parseFloat(field.getAttribute("x"));
          const part = to > from ? Math.min(1, Math.max(0, (x - from) / (to - from))) : 0;
          const at = left + part * parseFloat(field.getAttribute("width"));
          const top = parseFloat(field.getAttribute("y"));
          line.setAttribute("x1", at);
          line.setAttribute("x2", at);
          line.setAttribute("y1", top);
          line.setAttribute("y2", top + parseFloat(field.getAttribute("height")));
          return;
        }
      }
    }
    // Before it is moved the slider stands for the threshold itself, not for its nearest step.
    const first = data.threshold === null || !(highest > lowest) ? 0
      : Math.round(1000 * (data.threshold - lowest) / (highest - lowest));
    function show() {
      const itself = data.threshold !== null && Number(slider.value) === first;
      const x = itself ? data.threshold : lowest + (highest - lowest) * slider.value / 1000;
      const kept = itself && data.below !== null ? data.scored - data.below
        : Math.round(data.scored * (1 - shareBelow(data.quantiles, x)));
      output.textContent = kept.toLocaleString("en") + " of " + data.scored.toLocaleString("en") +
        " samples would be kept, " + (100 * kept / Math.max(1, data.scored)).toFixed(1) +
        "\u00a0%, by a threshold of about " + x.toFixed(3) + ".";
      slider.setAttribute("aria-valuetext", output.textContent);
      charts.forEach((chart) => {
        chart.bins.forEach((bin) => {
          bin.classList.toggle("beyond", parseFloat(bin.getAttribute("data-to")) <= x);
        });
        moveLine(chart, x);
      });
    }
    slider.value = first;
    slider.addEventListener("input", show);
    show();
  }

  // ---- The frame: where one is, fold-outs that links and printing need open.

  function followSections() {
    const links = new Map(all("nav a").map((a) => [a.getAttribute("href").slice(1), a]));
    const seen = new Set();
    const observer = new IntersectionObserver((entries) => {
      entries.forEach((e) => (e.isIntersecting ? seen.add(e.target.id) : seen.delete(e.target.id)));
      const current = Array.from(links.keys()).find((id) => seen.has(id));
      links.forEach((a, id) => {
        if (id === current) {
          a.setAttribute("aria-current", "true");
        } else {
          a.removeAttribute("aria-current");
        }
      });
    }, { rootMargin: "-15% 0px -70% 0px" });
    all("main > section").forEach((section) => observer.observe(section));
  }

  function openAround(id) {
    const target = id && document.getElementById(id);
    for (let node = target; node; node = node.parentElement) {
      if (node.tagName === "DETAILS") {
        node.open = true;
      }
    }
  }

  function openForPrint() {
    // Not the tables behind charts: the charts are there, and they would fill a book.
    let opened = [];
    window.addEventListener("beforeprint", () => {
      opened = all("details:not([open]):not(.about):not(.data)");
      opened.forEach((d) => { d.open = true; });
    });
    window.addEventListener("afterprint", () => {
      opened.forEach((d) => { d.open = false; });
    });
  }

  document.documentElement.classList.add("js");
  all("table").forEach((table) => {
    if (table.tBodies[0] && table.tBodies[0].rows.length > 1) {
      makeSortable(table);
    }
    if (table.tBodies[0] && table.tBodies[0].rows.length > 20) {
      addFilter(table.parentNode, () => Array.from(table.tBodies[0].rows), "Filter the table");
    }
  });
  all(".findings").forEach((list) => {
    if (list.children.length > 8) {
      addFilter(list, () => Array.from(list.children), "Filter the findings");
    }
  });
  all("figure").forEach(addTools);
  all("figure").forEach(addHighlights);
  addReadouts();
  addSlider();
  followSections();
  openForPrint();
  window.addEventListener("hashchange", () => openAround(location.hash.slice(1)));
  openAround(location.hash.slice(1));
})();
