// The code: a map of the items, a histogram of each unit, and the correlation of units.

const GLYPHS = 2; // labels up to this many characters are drawn as text, so colors are not needed to tell them apart
const PALETTE = 10;

function codeMap(container, r, detail) {
  const points = array(DATA.runs[r].code.points);
  const labels = DATA.map.labels;
  const classes = labels ? [...new Set(labels)].sort((a, b) => a - b) : [];
  const few = classes.length > 1 && classes.length <= 20;
  const written = few && classes.every((label) => labelOf(label).length <= GLYPHS);
  const canvas = el("canvas", { class: "map", tabindex: 0, role: "img",
    "aria-label": `Map of ${points.length / 2} codes. Arrow keys move from one ${FORM.item_name} to the next; Enter chooses it as A or B.` });
  let place = [], current = -1, only = null, scale = 1;
  const draw = () => {
    const width = container.clientWidth, height = Math.round(Math.min(width * 0.8, 460));
    if (!width) return;
    scale = window.devicePixelRatio || 1;
    Object.assign(canvas, { width: width * scale, height: height * scale });
    canvas.style.height = `${height}px`;
    place = placed(points, width, height);
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.font = "600 10px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    const shades = Array.from({ length: PALETTE }, (_, i) => color(`--class-${i}`));
    place.forEach(([x, y], i) => {
      const number = few ? classes.indexOf(labels[i]) : 0;
      context.fillStyle = few ? shades[number % PALETTE] : color("--run-0");
      context.globalAlpha = only !== null && labels[i] !== only ? 0.08 : 0.85;
      if (written) context.fillText(labelOf(labels[i]), x, y);
      else context.fillRect(x - 2, y - 2, 4, 4);
    });
    context.globalAlpha = 1;
    pins.forEach((pin, n) => pin !== null && mark(context, place[pin], "AB"[n]));
    if (current >= 0) mark(context, place[current], "");
  };
  const go = (i) => { current = i; detail.show(i); draw(); };
  const nearest = (event) => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = -1, least = 30 ** 2;
    place.forEach(([a, b], i) => {
      const distance = (a - x) ** 2 + (b - y) ** 2;
      if (distance < least && (only === null || labels[i] === only)) [best, least] = [i, distance];
    });
    return best;
  };
  canvas.addEventListener("pointermove", (event) => { const i = nearest(event); if (i >= 0 && i !== current) go(i); });
  canvas.addEventListener("click", (event) => { const i = nearest(event); if (i >= 0) { go(i); pin(i); } });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (step) { event.preventDefault(); go((current + step + place.length) % place.length); }
    else if ((event.key === "Enter" || event.key === " ") && current >= 0) { event.preventDefault(); pin(current); }
  });
  onPins.push(draw);
  redraws.push(draw);
  container.append(canvas);
  if (few) container.append(classLegend(classes, (label) => { only = label; draw(); }));
  responsive(container, draw);
}

function placed(points, width, height) {
  const edge = 14;
  const range = [0, 1].map((axis) => {
    const values = points.filter((_, i) => i % 2 === axis).sort();
    return [values[0], values[values.length - 1]];
  });
  const at = (value, axis, size) => edge + ((value - range[axis][0]) / (range[axis][1] - range[axis][0] || 1)) * (size - 2 * edge);
  return Array.from({ length: points.length / 2 }, (_, i) => [at(points[2 * i], 0, width), height - at(points[2 * i + 1], 1, height)]);
}

function mark(context, [x, y], letter) {
  context.strokeStyle = color("--ink");
  context.lineWidth = 2;
  context.beginPath();
  context.arc(x, y, 9, 0, 7);
  context.stroke();
  if (!letter) return;
  context.fillStyle = color("--ink");
  context.fillText(letter, x + 15, y - 8);
}

// Buttons that highlight one class.
function classLegend(classes, choose) {
  let chosen = null;
  const buttons = classes.map((label, number) => el("button", { type: "button", class: `class class-${number % PALETTE}`, "aria-pressed": "false",
    onclick: () => {
      chosen = chosen === label ? null : label;
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(classes[i] === chosen)));
      choose(chosen);
    } }, labelOf(label)));
  return el("div", { class: "classes", role: "group", "aria-label": "Highlight one label" }, ...buttons);
}

// A histogram of each unit's values.
function unitCharts(container, code) {
  const bins = code.histograms.shape[1];
  code.units.forEach((unit, u) => {
    const counts = row(code.histograms, u);
    const most = Math.max(...counts, 1);
    const path = Array.from(counts, (count, i) => `V${(32 - (30 * Math.sqrt(count / most))).toFixed(1)}H${(((i + 1) / bins) * 60).toFixed(1)}`);
    const dead = code.dead.includes(unit);
    const zero = code.low[u] < 0 && code.high[u] > 0 ? (-code.low[u] / (code.high[u] - code.low[u])) * 60 : null;
    container.append(el("figure", { class: dead ? "unit dead" : "unit" },
      svg("svg", { viewBox: "0 0 60 32", role: "img", "aria-label": unitText(code, unit, u) },
        svg("title", {}, unitText(code, unit, u)),
        svg("path", { d: `M0 32${path.join("")}V32Z`, class: "activity" }),
        zero === null ? null : svg("path", { d: `M${zero.toFixed(1)} 0V32`, class: "zero" })),
      el("figcaption", {}, String(unit))));
  });
}

function unitText(code, unit, u) {
  const zeros = code.zero[u] > 0 ? `, zero for ${Math.round(100 * code.zero[u])}%` : "";
  const dead = code.dead.includes(unit) ? ", dead" : "";
  return `unit ${unit}${dead}: ${figures(code.low[u])} to ${figures(code.high[u])}, mean ${figures(code.mean[u])}, deviation ${figures(code.deviation[u])}${zeros}`;
}

// The correlation matrix, units with the largest deviation first.
function correlationChart(container, code) {
  const size = code.related.length;
  const values = array(code.correlation);
  const canvas = el("canvas", { width: size, height: size, class: "heat", role: "img", tabindex: 0, "aria-label": `Correlation of ${size} units` });
  const text = el("p", { class: "quiet", role: "status" }, "Point at a cell, or use the arrow keys.");
  let at = [0, 0];
  const show = (i, j) => {
    at = [Math.max(0, Math.min(size - 1, i)), Math.max(0, Math.min(size - 1, j))];
    text.textContent = `units ${code.related[at[0]]} and ${code.related[at[1]]}: ${(values[at[0] * size + at[1]] / 100).toFixed(2)}`;
  };
  painted(() => paintSigned(canvas, Float32Array.from(values, (value, i) => (i % (size + 1) ? value / 100 : 0))));
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    show(Math.floor(((event.clientY - box.top) / box.height) * size), Math.floor(((event.clientX - box.left) / box.width) * size));
  });
  canvas.addEventListener("keydown", (event) => {
    const [down, across] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] || [0, 0];
    if (down || across) { event.preventDefault(); show(at[0] + down, at[1] + across); }
  });
  container.append(canvas, text);
}

// The first layer's features, strongest first.
function featureChart(container, features) {
  const size = features.rows.shape[1];
  features.units.forEach((unit, f) => {
    const values = row(features.rows, f);
    const alt = `unit ${unit}, norm ${figures(features.norms[f])}`;
    const [width, height] = IMAGES ? [features.shape[2], features.shape[1]] : [size, 1];
    const canvas = el("canvas", { width, height, role: "img", "aria-label": alt, title: alt, class: IMAGES ? "feature" : "feature strip" });
    if (IMAGES && CHANNELS >= 3) {
      const area = width * height;
      paintBytes(canvas, Uint8Array.from({ length: 3 * area }, (_, i) => 127.5 + values[(i % 3) * area + Math.floor(i / 3)]));
    } else painted(() => paintSigned(canvas, Float32Array.from(values.subarray(0, width * height), (value) => value / 127)));
    container.append(canvas);
  });
}
