/*
 * report/timeline.js - the batches of a curriculum, zoomable: uPlot in place of the drawings.
 *
 * Every <div class="timeline"> holds the drawings that are always there and, as JSON in a
 * JSON script element, the numbers they were made from:
 *
 *     {"batch": [0, 1, ..], "per_point": 1, "difficulty": [..], "low": [..], "high": [..],
 *      "entropy": [..], "clusters": [..], "quality": [..]}
 *
 * Two plots, difficulty above and cluster entropy below, share their batches, zoom and cursor.
 * Without uPlot nothing happens. The drawings stay in the page, for paper. Colours are the custom
 * properties that the drawings have too, read at each redraw, so that both follow the theme.
 */
(function () {
  "use strict";

  const NAMES = ["difficulty", "low", "high", "entropy", "clusters", "quality"];
  const AXIS = 44; /* width of both y axes: the plots line up */
  const POINTS_MIN = 4; /* the deepest zoom shows this many */
  const HINT = matchMedia("(hover: hover)").matches ?
    "Drag to zoom, double-click for all batches" : "Tap a batch to read it";

  /* All series as long as the batches, with numbers or null. False: nothing that could be drawn. */
  function readable(data) {
    if (!data || !Array.isArray(data.batch) || data.batch.length < 2)
      return false;
    if (!data.batch.every((x, i, all) => typeof x === "number" && (i === 0 || x > all[i - 1])))
      return false;
    for (const name of NAMES) {
      const given = Array.isArray(data[name]) ? data[name] : [];

      data[name] = data.batch.map((_, i) => (typeof given[i] === "number" ? given[i] : null));
    }
    return true;
  }

  function sentence(data, step, i) {
    const digits = (name, n) => (data[name][i] === null ? "" : data[name][i].toFixed(n));
    const from = data.batch[i];
    const parts = [];

    if (digits("difficulty", 2)) {
      parts.push("difficulty " + digits("difficulty", 2) +
        (digits("low", 2) && digits("high", 2) ?
          " (" + digits("low", 2) + " to " + digits("high", 2) + ")" : ""));
    }
    if (digits("entropy", 2))
      parts.push("entropy " + digits("entropy", 2) + " bits");
    if (digits("clusters", 0))
      parts.push(digits("clusters", 0) + (data.clusters[i] === 1 ? " cluster" : " clusters"));
    if (digits("quality", 2))
      parts.push("quality " + digits("quality", 2));
    return (step > 1 ? "Batches " + from + " to " + (from + step - 1) : "Batch " + from) + ": " +
      parts.join(", ");
  }

  function button(text, name, press) {
    const b = document.createElement("button");

    b.type = "button";
    b.textContent = text;
    if (name) {
      b.setAttribute("aria-label", name);
      b.title = name;
    }
    b.addEventListener("click", press);
    return b;
  }

  function build(figure, data, order) {
    const live = document.createElement("div");
    const bar = document.createElement("div");
    const said = document.createElement("output");
    const first = data.batch[0];
    const last = data.batch[data.batch.length - 1];
    const step = Math.max(data.per_point || 1, 1);
    const family = getComputedStyle(figure).fontFamily;
    const plots = [];

    function css(name) {
      return () => getComputedStyle(figure).getPropertyValue(name).trim();
    }

    function axis(more) {
      return Object.assign({
        stroke: css("--soft"),
        font: "12px " + family,
        labelFont: "12px " + family,
        labelSize: 18,
        grid: { stroke: css("--line"), width: 1 },
        ticks: { show: false },
        border: { show: false },
        gap: 6,
      }, more);
    }

    /* Shows from..to, no less than a few points and no more than there are. */
    function show(from, to) {
      const width = Math.min(Math.max(to - from, POINTS_MIN * step), last - first);

      from = Math.min(Math.max((from + to - width) / 2, first), last - width);
      for (const plot of plots)
        plot.setScale("x", { min: from, max: from + width });
    }

    /* The middle moves by a share of the width, which grows by a factor. */
    function move(share, factor) {
      const x = plots[0].scales.x;
      const width = x.max - x.min;
      const half = Math.min(width * factor, last - first) / 2;
      const wanted = (x.min + x.max) / 2 + width * share;
      const middle = Math.min(Math.max(wanted, first + half), last - half);

      show(middle - half, middle + half);
    }

    function plot(height, y, label, series, bands, columns, with_batches) {
      const box = document.createElement("div");
      const made = new uPlot({
        width: Math.max(live.clientWidth, 200),
        height: height,
        legend: { show: false },
        padding: [10, 12, with_batches ? 0 : 6, 0],
        cursor: {
          y: false,
          drag: { x: true, y: false, dist: 4 },
          points: { size: 7 },
          sync: { key: "timeline-" + order, scales: ["x", null] },
        },
        scales: { x: { time: false, range: (u, low, high) => [low, high] }, y: { range: y } },
        axes: [
          axis({ show: with_batches, label: "batch", grid: { show: false }, space: 60, size: 28,
                 incrs: [1, 2, 5].flatMap((m) => [1, 10, 100, 1e3, 1e4, 1e5].map((p) => m * p))
                   .sort((a, b) => a - b) }),
          axis({ label: label, size: AXIS, space: 36 }),
        ],
        series: [{}].concat(series),
        bands: bands,
        hooks: {
          setCursor: [(u) => {
            const i = u.cursor.idx;

            said.textContent = typeof i === "number" ? sentence(data, step, i) : HINT;
          }],
        },
      }, [data.batch].concat(columns), box);

      live.append(box);
      made.over.addEventListener("dblclick", () => show(first, last));
      plots.push(made);
    }

    live.className = "timeline-live";
    bar.className = "timeline-bar";
    bar.append(
      button("+", "Zoom in", () => move(0, 0.5)),
      button("−", "Zoom out", () => move(0, 2)),
      button("‹", "Earlier batches", () => move(-0.5, 1)),
      button("›", "Later batches", () => move(0.5, 1)),
      button("All batches", "", () => show(first, last)),
      said);
    said.textContent = HINT;
    live.append(bar);
    figure.prepend(live);

    const invisible = { width: 0, points: { show: false } };
    const known = (...names) => names.flatMap((name) => data[name]).filter((x) => x !== null);
    const has = (name) => known(name).length > 0;
    const difficulties = known("difficulty", "low", "high");
    const lowest = difficulties.reduce((a, b) => Math.min(a, b), 0);
    const highest = difficulties.reduce((a, b) => Math.max(a, b), 1);
    const bits = known("entropy").reduce((a, b) => Math.max(a, b), 1);

    if (has("difficulty")) {
      plot(230, () => [lowest, highest], "difficulty",
        [invisible, invisible,
         { label: "difficulty", width: 2, stroke: css("--s0"), points: { show: false } }],
        [{ series: [1, 2], fill: () => css("--s0")() + "29" }],
        [data.high, data.low, data.difficulty], !has("entropy"));
    }
    if (has("entropy")) {
      plot(130, () => [0, bits * 1.05], "entropy, bits",
        [{ label: "entropy", width: 1.5, stroke: css("--s1"), points: { show: false } }], [],
        [data.entropy], true);
    }
    if (plots.length === 0) {
      live.remove();
      return;
    }
    figure.classList.add("timeline-on");

    new ResizeObserver(() => {
      for (const p of plots) {
        if (live.clientWidth > 0 && live.clientWidth !== p.width)
          p.setSize({ width: live.clientWidth, height: p.height });
      }
    }).observe(live);
    const redraw = () => plots.forEach((p) => p.redraw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    new MutationObserver(redraw).observe(document.documentElement, { attributes: true });
  }

  if (typeof uPlot === "undefined")
    return;
  document.querySelectorAll(".timeline").forEach((figure, order) => {
    try {
      const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);

      if (readable(data))
        build(figure, data, order);
    } catch (e) {
      /* The drawings are still there. */
      figure.classList.remove("timeline-on");
    }
  });
})();
