"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const count = data.names.length;

  // --- numbers ---------------------------------------------------------------------------------
  const superscript = (n) => String(n).replace(/[-\d]/g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
  const power = (e, plain) => (plain || e === 0 ? String(Number((10 ** e).toPrecision(1))) : "10" + superscript(e));
  const number = (v) => {
    if (v === null || v === undefined) return "–";
    if (typeof v !== "number") return String(v);
    if (v < 0) return "−" + number(-v);
    if (v === 0 || (Math.abs(v) >= 1e-3 && Math.abs(v) < 1e5)) return String(Number(v.toPrecision(3)));
    const [digits, exponent] = v.toExponential(2).split("e");
    return `${Number(digits)}×10${superscript(Number(exponent))}`;
  };
  const make = (tag, properties, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  // --- theme -----------------------------------------------------------------------------------
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const printing = matchMedia("print");
  const stored = (...value) => {
    try { // a page opened from disk may have no storage
      return value.length ? localStorage.setItem("fanwise-theme", value[0]) : localStorage.getItem("fanwise-theme");
    } catch { return null; }
  };
  const theme = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const color = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const nameSwitch = () => { $("theme").textContent = theme() === "dark" ? "Light theme" : "Dark theme"; };
  if (["dark", "light"].includes(stored())) root.dataset.theme = stored();
  $("theme").hidden = false;
  nameSwitch();
  $("theme").addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    stored(root.dataset.theme);
    nameSwitch();
    drawAll();
  });
  dark.addEventListener("change", () => { nameSwitch(); drawAll(); });

  // --- charts over layers ----------------------------------------------------------------------
  const layers = data.names.map((_, i) => i);
  const plots = new Map(); // host element → uPlot
  let chosen = data.where ?? 0;
  const DASH = { before: [], after: [], predicted: [6, 4] };

  const powers = (u, splits) => {
    const exponents = splits.map((v) => Math.round(Math.log10(v)));
    const plain = exponents.every((e) => Math.abs(e) <= 3);
    return exponents.map((e) => power(e, plain));
  };
  const logRange = (u, min, max) => { // at least two decades: noise must not look like drift
    if (min === null || max === null) return [0.1, 10];
    let [low, high] = [Math.log10(min), Math.log10(max)];
    const short = Math.max(0, 2 - (high - low)) / 2, pad = 0.04 * (high - low);
    return [10 ** (low - short - pad), 10 ** (high + short + pad)];
  };
  const decades = (u, axis, min, max) => {
    const low = Math.ceil(Math.log10(min) - 1e-9), high = Math.floor(Math.log10(max) + 1e-9);
    const stride = Math.max(1, Math.ceil((high - low) / 6)), found = [];
    for (let e = Math.ceil(low / stride) * stride; e <= high; e += stride) found.push(10 ** e);
    return found;
  };
  const axes = (vertical) => [
    { stroke: color("muted"), grid: { show: false }, ticks: { stroke: color("line"), size: 4 }, size: 26, font: "11px system-ui, sans-serif", ...vertical.x },
    { stroke: color("muted"), grid: { stroke: color("line"), width: 1 }, ticks: { show: false }, size: 52, font: "11px system-ui, sans-serif", ...vertical.y },
  ];
  const vertical = (u, at, stroke, dash, text) => {
    const x = Math.round(u.valToPos(at, "x", true)), { left, top, width, height } = u.bbox, ratio = u.pxRatio || devicePixelRatio;
    if (x < left || x > left + width) return;
    const { ctx } = u;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = stroke;
    ctx.lineWidth = ratio;
    ctx.setLineDash(dash.map((d) => d * ratio));
    ctx.beginPath(); ctx.moveTo(x, top); ctx.lineTo(x, top + height); ctx.stroke();
    if (text) {
      const right = x < left + 0.75 * width;
      ctx.font = `${11 * ratio}px system-ui, sans-serif`;
      ctx.textAlign = right ? "left" : "right";
      ctx.textBaseline = "bottom";
      ctx.fillText(text, x + (right ? -3 : 3) * ratio, top - 3 * ratio);
    }
    ctx.restore();
  };

  const readout = (chart, host, i) => {
    const line = host.parentElement.querySelector(".readout");
    line.replaceChildren(make("b", { textContent: data.names[i] }));
    const byRole = chart.series.some((series) => series.role);
    for (const series of chart.series) {
      if (byRole && series.values[i] === null) continue; // another role's line
      line.append(" · ", make("span", { className: series.style, textContent: `${series.label} ${number(series.values[i])}` }));
    }
  };
  const roles = (chart) => { // each line's role and its end, the lowest first
    const found = new Map();
    for (const series of chart.series) {
      if (!series.role || series.varying || series.style === "predicted" || found.has(series.role)) continue;
      found.set(series.role, series.values.findLast((v) => v !== null));
    }
    return [...found].sort((a, b) => a[1] - b[1]);
  };
  const nameRoles = (u, ends) => {
    const { left, top, width, height } = u.bbox, ratio = u.pxRatio || devicePixelRatio, { ctx } = u;
    let above = top + height + 12 * ratio;
    ctx.save();
    ctx.fillStyle = color("muted");
    ctx.font = `${10 * ratio}px system-ui, sans-serif`;
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    for (const [role, value] of ends) {
      above = Math.min(u.valToPos(value, "y", true), above - 12 * ratio);
      ctx.fillText(role, left + width + 4 * ratio, above, 74 * ratio);
    }
    ctx.restore();
  };
  const drawChart = (chart, host) => {
    const y = chart.log
      ? { splits: decades, filter: (u, splits) => splits, values: powers }
      : {};
    const options = {
      width: host.clientWidth, height: 240, padding: [18, roles(chart).length ? 78 : 8, 0, 0], pxRatio: Math.max(2, devicePixelRatio), legend: { show: false },
      cursor: { y: false, sync: { key: "layers" }, points: { size: 7 }, drag: { x: true, y: false } },
      scales: {
        x: { time: false, range: (u, min, max) => [min - 0.5, max + 0.5] },
        y: chart.log ? { distr: 3, range: logRange } : { range: (u, min) => [Math.min(0, min), 1.02] },
      },
      axes: axes({ x: { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] }, y }),
      series: [{}, ...chart.series.map((series) => ({
        stroke: color(series.style), spanGaps: chart.joined, width: series.style === "predicted" ? 1.5 : 2,
        dash: series.varying ? [2, 4] : DASH[series.style],
        points: { show: count <= 60 && series.style !== "predicted" && !series.varying, size: 5, fill: color(series.style) },
      }))],
      hooks: {
        setCursor: [(u) => readout(chart, host, u.cursor.idx ?? chosen)],
        draw: [(u) => {
          nameRoles(u, roles(chart));
          if (data.where !== null) vertical(u, data.where, color("bad"), [2, 3], "from here");
          if (!printing.matches && chosen !== data.where) vertical(u, chosen, color("muted"), [], "");
        }],
      },
    };
    const made = new uPlot(options, [layers, ...chart.series.map((series) => series.values)], host);
    made.over.addEventListener("click", () => { if (made.cursor.idx !== null) choose(made.cursor.idx); });
    readout(chart, host, chosen);
    return made;
  };

  // --- one layer -------------------------------------------------------------------------------
  const histogram = (shape, style, host) => {
    const { low, high, counts } = shape, step = (high - low) / counts.length;
    const total = counts.reduce((a, b) => a + b, 0) || 1;
    const at = counts.map((_, i) => low + (i + 0.5) * step);
    const options = {
      width: host.clientWidth, height: 130, pxRatio: Math.max(2, devicePixelRatio), legend: { show: false }, cursor: { show: false },
      scales: { x: { time: false, range: [low, high] }, y: { range: (u, min, max) => [0, max * 1.05 || 1] } },
      axes: axes({
        x: { space: 44, values: (u, splits) => splits.map(number) },
        y: { size: 40, space: 40, values: (u, splits) => splits.map((v) => `${Number((100 * v).toPrecision(2))}%`) },
      }),
      series: [{}, { fill: color(style), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.9, Infinity] }) }],
    };
    return new uPlot(options, [at, counts.map((n) => n / total)], host);
  };
  const show = (i) => {
    $("layer-name").textContent = data.names[i];
    const pick = $("pick");
    pick.value = i;
    pick.setAttribute("aria-valuetext", data.names[i]);
    const known = (label, row) => data.facts.runs.some((run) => (run[i]?.[row] ?? null) !== null);
    const fact = (label, row) => make("tr", { hidden: !known(label, row) },
      make("th", { scope: "row", textContent: label }),
      ...data.facts.runs.map((run) => make("td", { className: "number", textContent: number(run[i]?.[row]) })));
    $("facts").tBodies[0].replaceChildren(...data.facts.labels.map(fact));
    for (const host of document.querySelectorAll(".histograms .plot")) {
      plots.get(host)?.destroy();
      plots.delete(host);
      const shape = data.histograms[host.dataset.run][host.dataset.of][i];
      host.parentElement.hidden = !shape;
      if (shape) plots.set(host, histogram(shape, host.dataset.run, host));
    }
    document.querySelector("tr.chosen")?.classList.remove("chosen");
    document.querySelector(`tr[data-layer="${i}"]`)?.classList.add("chosen");
  };
  const choose = (i) => {
    chosen = i;
    show(i);
    data.charts.forEach((chart) => {
      const host = $(`chart-${chart.key}`);
      plots.get(host)?.redraw(false);
      readout(chart, host, i);
    });
  };

  const drawAll = () => {
    for (const plot of plots.values()) plot.destroy();
    plots.clear();
    for (const chart of data.charts) plots.set($(`chart-${chart.key}`), drawChart(chart, $(`chart-${chart.key}`)));
    if (count) show(chosen);
  };
  const fit = () => {
    for (const [host, plot] of plots) {
      if (host.clientWidth && host.clientWidth !== plot.width) plot.setSize({ width: host.clientWidth, height: plot.height });
    }
  };
  addEventListener("resize", fit);
  // Charts are pictures of a size: they are drawn anew, on white, for paper.
  printing.addEventListener("change", drawAll);

  // --- tables ----------------------------------------------------------------------------------
  const key = (cell) => {
    const text = cell.dataset.v ?? cell.textContent.trim();
    if (text === "" || text === "–") return null;
    const value = Number(text);
    return Number.isNaN(value) ? text.toLowerCase() : value;
  };
  const compare = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1);
  const sort = (table, column, head) => {
    const falling = head.getAttribute("aria-sort") === "ascending", body = table.tBodies[0];
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const rows = [...body.rows].map((row) => [key(row.cells[column]), row]);
    rows.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : falling ? compare(b, a) : compare(a, b)));
    body.append(...rows.map(([, row]) => row));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make("button", { type: "button", textContent: head.textContent });
      button.addEventListener("click", () => sort(table, column, head));
      head.replaceChildren(button);
    });
    const controls = document.querySelector(`.controls[data-for="${table.id}"]`);
    controls.hidden = false;
    const [text, select, status] = ["input", "select", ".count"].map((what) => controls.querySelector(what));
    const rows = [...table.tBodies[0].rows], texts = rows.map((row) => row.textContent.toLowerCase());
    const filter = () => {
      const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, i) => {
        const role = !select || !select.value || row.dataset.role === select.value;
        row.hidden = !role || !words.every((word) => texts[i].includes(word));
        shown += row.hidden ? 0 : 1;
      });
      status.textContent = `${shown} of ${rows.length} rows`;
    };
    text.addEventListener("input", filter);
    select?.addEventListener("change", filter);
    filter();
  }

  if (count) {
    $("pick").addEventListener("input", (event) => choose(Number(event.target.value)));
    $("layers").tBodies[0].addEventListener("click", (event) => {
      const row = event.target.closest("button") && event.target.closest("tr");
      if (!row) return;
      choose(Number(row.dataset.layer));
      $("layer").scrollIntoView({ block: "nearest" });
    });
  }
  drawAll();
})();
