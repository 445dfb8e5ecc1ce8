/* The explorer's page: a form, a sentence, three charts and a table. What it computes is in
   explorer-math.js; its settings are kept in the address, so that a link shows the same. */
"use strict";

(() => {
  const form = document.getElementById("explorer");
  if (!form) return;
  const WIDTH = 360, HEIGHT = 240, LEFT = 52, BOTTOM = 34, TOP = 10, RIGHT = 10;

  /** A number as a reader wants it: four digits, or a power of ten. */
  function shown(x) {
    if (!Number.isFinite(x)) return x > 0 ? "∞" : "–";
    const size = Math.abs(x);
    return size !== 0 && (size < 1e-3 || size >= 1e5) ? x.toExponential(1) : String(+x.toPrecision(3));
  }

  /** The form's values, each within its own limits; a field that can't be read keeps its default. */
  function settings() {
    const found = {};
    for (const field of form.elements) {
      if (!field.name) continue;
      if (field.type !== "number") {
        found[field.name] = field.value;
        continue;
      }
      const typed = Number.parseFloat(field.value);
      const value = Number.isFinite(typed) ? typed : Number(field.defaultValue);
      const within = Math.min(Math.max(value, Number(field.min)), Number(field.max));
      found[field.name] = field.step === "any" ? within : Math.round(within);
      field.setAttribute("aria-invalid", String(within !== typed));
    }
    return found;
  }

  function element(name, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  /** Draw lines into an svg: series of {points, kind, label}; axes {from, to, log, ticks, label}. */
  function chart(id, said, x, y, series) {
    const svg = document.getElementById(id);
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("aria-label", said);
    svg.replaceChildren();
    const place = (axis, value, start, length) => {
      const map = axis.log ? Math.log10 : (v) => v;
      return start + ((map(value) - map(axis.from)) / (map(axis.to) - map(axis.from))) * length;
    };
    const across = (v) => place(x, v, LEFT, WIDTH - LEFT - RIGHT);
    const down = (v) => place(y, v, HEIGHT - BOTTOM, -(HEIGHT - BOTTOM - TOP));
    for (const tick of y.ticks) {
      svg.append(element("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: down(tick), y2: down(tick), class: "grid" }));
      svg.append(element("text", { x: LEFT - 6, y: down(tick) + 4, "text-anchor": "end" }, shown(tick)));
    }
    for (const tick of x.ticks) {
      svg.append(element("text", { x: across(tick), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, shown(tick)));
    }
    svg.append(element("text", { x: WIDTH - RIGHT, y: HEIGHT - 4, "text-anchor": "end" }, x.label));
    let entry = 0;
    for (const { points, kind, label } of series) {
      const inside = points.filter(([a, b]) =>
        Number.isFinite(a) && Number.isFinite(b) && b >= y.from && b <= y.to && (!y.log || b > 0));
      svg.append(element("polyline", {
        points: inside.map(([a, b]) => `${across(a).toFixed(1)},${down(b).toFixed(1)}`).join(" "), class: kind,
      }));
      if (label) {
        const height = TOP + 14 + 16 * entry++;
        svg.append(element("line", { x1: LEFT + 8, x2: LEFT + 28, y1: height - 4, y2: height - 4, class: kind }));
        svg.append(element("text", { x: LEFT + 34, y: height }, label));
      }
    }
  }

  /** An axis of powers of ten that holds these values, at least two decades. */
  function decades(values, label) {
    const sizes = values.filter((v) => v > 0 && Number.isFinite(v)).map(Math.log10);
    let from = Math.floor(Math.min(...sizes, 0)), to = Math.ceil(Math.max(...sizes, 0));
    while (to - from < 2) [from, to] = [from - (to - from === 1 ? 1 : 0), to - from === 1 ? to : to + 1];
    const step = Math.ceil((to - from) / 5), ticks = [];
    for (let power = from; power <= to; power += step) ticks.push(10 ** power);
    return { from: 10 ** from, to: 10 ** to, log: true, ticks, label };
  }

  const evenly = (from, to, count) => Array.from({ length: count }, (_, i) => from + ((to - from) * i) / (count - 1));

  function draw() {
    const chosen = settings();
    const layers = explorer.chain(chosen);
    const { activation, width } = chosen;
    const kept = explorer.meanSquare(activation);
    const variance = explorer.SCHEMES[chosen.scheme](width, width, kept, chosen.std);
    const std = Math.sqrt(variance), first = layers[0], last = layers[layers.length - 1];
    const before = layers[Math.max(0, layers.length - 2)];
    const factor = ((width * variance * explorer.meanSquare(activation, before.q)) / before.q) ** 0.5;
    const back = (width * variance * explorer.meanSlope(activation, before.q)) ** 0.5;

    document.getElementById("explorer-said").textContent =
      `A hidden kernel has fan_in ${width} and fan_out ${width}: deviation ${shown(std)}, ` +
      `uniform limit ${shown(std * Math.sqrt(3))}. The gain of ${activation} is ${shown(1 / Math.sqrt(kept))}. ` +
      `At depth a layer changes the signal's rms by ${shown(factor)} and the gradient's by ${shown(back)}: ` +
      `rms ${shown(first.rms)} at the first kernel, ${shown(last.rms)} at the last; gradient ${shown(last.gradient)} ` +
      `there, ${shown(first.gradient)} at the first. Two inputs of cosine ${shown(chosen.cosine)} have ` +
      `${shown(last.cosine)} at the end.`;

    const kernels = [1, ...[0.25, 0.5, 0.75, 1].map((part) => Math.round(1 + part * (layers.length - 1)))];
    const values = layers.flatMap((layer) => [layer.rms, layer.gradient]);
    chart(
      "explorer-signal",
      `The signal's rms goes from ${shown(first.rms)} to ${shown(last.rms)}, the gradient's from ` +
        `${shown(last.gradient)} at the end to ${shown(first.gradient)} at the beginning.`,
      { from: 1, to: layers.length, ticks: [...new Set(kernels)], label: "kernel" },
      decades(values, "rms"),
      [
        { points: layers.map((l, i) => [i + 1, l.rms]), kind: "signal", label: "signal →" },
        { points: layers.map((l, i) => [i + 1, l.gradient]), kind: "gradient", label: "gradient ←" },
      ],
    );

    const squares = evenly(-2, 2, 41).map((power) => 10 ** power);
    const after = squares.map((q) => [q, width * variance * explorer.meanSquare(activation, q)]);
    const axis = { from: 0.01, to: 100, log: true, ticks: [0.01, 0.1, 1, 10, 100], label: "q" };
    chart(
      "explorer-square",
      `A mean square of 1 becomes ${shown(width * variance * kept)} after a layer.`,
      axis, { ...axis },
      [{ points: squares.map((q) => [q, q]), kind: "diagonal" }, { points: after, kind: "signal", label: "q′(q)" }],
    );

    const coefficients = explorer.hermite(activation, before.q);
    const cosines = evenly(0, 1, 41);
    const mapped = cosines.map((rho) => [rho, explorer.cosineAfter(activation, before.q, rho, coefficients)]);
    const unit = { from: 0, to: 1, ticks: [0, 0.25, 0.5, 0.75, 1], label: "cosine" };
    chart(
      "explorer-cosine",
      `Two inputs of cosine 0.5 have ${shown(explorer.cosineAfter(activation, before.q, 0.5, coefficients))} after a layer.`,
      unit, { ...unit },
      [{ points: cosines.map((c) => [c, c]), kind: "diagonal" }, { points: mapped, kind: "signal", label: "after a layer" }],
    );

    const table = document.createElement("table");
    const row = (cells, name) => {
      const line = table.insertRow();
      for (const cell of cells) line.append(Object.assign(document.createElement(name), { textContent: cell }));
    };
    row(["kernel", "fan_in", "fan_out", "deviation", "rms", "gradient", "cosine"], "th");
    layers.forEach((l, i) =>
      row([i + 1, l.fanIn, l.fanOut, shown(l.std), shown(l.rms), shown(l.gradient), shown(l.cosine)], "td"));
    document.getElementById("explorer-table").replaceChildren(table);
    form.elements.std.disabled = chosen.scheme !== "fixed";
    return chosen;
  }

  /** Take the settings that the address names, if it names any. */
  function restore() {
    for (const [key, value] of new URLSearchParams(location.hash.slice(1))) {
      const field = form.elements.namedItem(key);
      if (!field) continue;
      const known = field.type === "number"
        ? value !== "" && Number.isFinite(Number(value))
        : [...field.options].some((o) => o.value === value);
      if (known) field.value = value;
    }
  }

  form.addEventListener("input", () => {
    history.replaceState(null, "", `#${new URLSearchParams(draw())}`);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", () => {
    restore();
    draw();
  });
  restore();
  draw();
})();
