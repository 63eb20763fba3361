// SVG charts: errors by epoch and the distribution of errors. Values can be read with the pointer and the arrow keys.

// Ticks 1, 2, 5, 10 ... of a logarithmic axis.
function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const factor of [1, 2, 5]) {
      const tick = factor * 10 ** power;
      if (tick >= low * 0.999 && tick <= high * 1.001) found.push(tick);
    }
  }
  return found.length > 6 ? found.filter((tick) => /^1/.test(tick.toExponential())) : found;
}

function linearTicks(high, count = 5) {
  const rough = high / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  return Array.from({ length: Math.floor(high / step) + 1 }, (_, i) => i * step);
}

// Formats the ticks of an axis with as many decimals as they need to differ.
function tickText(tick, ticks) {
  const step = ticks.length > 1 ? ticks[1] - ticks[0] : 1;
  const places = Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9)));
  return tick.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
}

function legend(entries) {
  return el(
    "ul",
    { class: "legend" },
    ...entries.map(([className, text]) =>
      el("li", {}, svg("svg", { width: 26, height: 10, "aria-hidden": true }, svg("path", { d: "M1 5H25", class: className })), text)
    )
  );
}

// Errors by epoch of all runs on a logarithmic axis, PCA as a line, the best epoch as a ring; the learning rate below.
function curvesChart(container) {
  const runs = DATA.runs;
  const several = runs.length > 1;
  const entries = [];
  runs.forEach((run, r) => {
    const name = several ? `${run.name}: ` : "";
    if (run.history.epochs.some((epoch) => epoch.validation !== null)) entries.push([`curve run-${r}`, `${name}validation`]);
    entries.push([`curve run-${r} training`, `${name}training`]);
  });
  const stronger = (run) => run.history.pca_clipped ?? run.history.pca; // of images, PCA clipped to the range of pixels
  const pcas = new Map(runs.filter((run) => run.history.pca !== null).map((run) => [run.history.components, stronger(run)]));
  const name = IMAGES ? "PCA clipped to [0, 1]" : "PCA";
  if (pcas.size) entries.push(["curve pca", several ? name : `${name}, ${runs[0].history.components} components`]);
  const plot = el("div", { class: "plot" });
  container.replaceChildren(legend(entries), plot);
  responsive(plot, (width) => plot.replaceChildren(...drawnCurves(width, runs, pcas)));
}

function drawnCurves(width, runs, pcas) {
  const height = 300, rateHeight = 64, left = 58, right = 14, top = 12, foot = 30;
  const numbers = runs.flatMap((run) => run.history.epochs.map((epoch) => epoch.epoch));
  const first = Math.min(1, ...numbers), last = Math.max(2, ...numbers); // a run with a linear path has an epoch 0
  const errors = runs.flatMap((run) => run.history.epochs.flatMap((epoch) => [epoch.train, epoch.validation]));
  const known = [...errors, ...pcas.values()].filter((value) => value > 0);
  const low = Math.min(...known) * 0.9, high = Math.max(...known) * 1.1;
  const x = (epoch) => left + ((epoch - first) / (last - first)) * (width - left - right);
  const y = (value) => top + (Math.log(high / value) / Math.log(high / low)) * (height - top - foot);
  const path = (points) => points.map(([a, b], i) => `${i ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");
  const chart = svg("svg", { width, height: height + rateHeight, viewBox: `0 0 ${width} ${height + rateHeight}`, role: "img",
    tabindex: 0, "aria-label": "Errors by epoch; the arrow keys move from epoch to epoch" });
  for (const tick of logTicks(low, high)) {
    chart.append(svg("path", { d: `M${left} ${y(tick)}H${width - right}`, class: "grid" }),
      svg("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, figures(tick, 1)));
  }
  for (const tick of linearTicks(last, width < 500 ? 5 : 10).filter((epoch) => epoch >= first && Number.isInteger(epoch))) {
    chart.append(svg("text", { x: x(tick), y: height - foot + 18, "text-anchor": "middle" }, String(tick)));
  }
  chart.append(svg("text", { x: left, y: height + rateHeight - 6, class: "axis" }, "learning rate by epoch"));
  for (const [components, value] of pcas) {
    chart.append(svg("path", { d: `M${left} ${y(value)}H${width - right}`, class: "curve pca" }));
    if (pcas.size > 1) chart.append(svg("text", { x: width - right, y: y(value) - 5, "text-anchor": "end" }, `PCA ${components}`));
  }
  runs.forEach((run, r) => {
    const epochs = run.history.epochs;
    const points = (key) => epochs.filter((epoch) => epoch[key] > 0).map((epoch) => [x(epoch.epoch), y(epoch[key])]);
    chart.append(svg("path", { d: path(points("train")), class: `curve run-${r} training` }),
      svg("path", { d: path(points("validation")), class: `curve run-${r}` }));
    const best = epochs.findLast((epoch) => epoch.best);
    const error = best && (best.validation ?? best.train);
    if (error > 0) chart.append(svg("circle", { cx: x(best.epoch), cy: y(error), r: 5, class: `ring run-${r}` }));
    const highest = Math.max(...runs.flatMap((each) => each.history.epochs.map((epoch) => epoch.rate)), 1e-30);
    const rates = epochs.map((epoch) => [x(epoch.epoch), height + (1 - epoch.rate / highest) * (rateHeight - 28) + 6]);
    chart.append(svg("path", { d: path(rates), class: `curve rate run-${r}` }));
  });
  return [chart, reader(chart, width, height, x, [first, last], runs)];
}

// The vertical line and the box of values that follow the pointer or the arrow keys.
function reader(chart, width, height, x, [first, last], runs) {
  const box = el("div", { class: "reading", hidden: true, role: "status" });
  const rule = svg("path", { class: "rule" });
  let epoch = first - 1;
  chart.append(rule);
  const read = (number) => {
    epoch = Math.max(first, Math.min(last, number));
    rule.setAttribute("d", `M${x(epoch)} 8V${height - 28}`);
    box.replaceChildren(el("strong", {}, `epoch ${epoch}`), ...runs.flatMap((run) => {
      const values = run.history.epochs.find((each) => each.epoch === epoch);
      if (!values) return [];
      const name = runs.length > 1 ? `${run.name}: ` : "";
      return [el("span", {}, `${name}training ${figures(values.train, 4)}`),
        values.validation === null ? null : el("span", {}, `${name}validation ${figures(values.validation, 4)}${values.best ? " (best so far)" : ""}`),
        el("span", {}, `${name}learning rate ${figures(values.rate, 3)}`)].filter(Boolean);
    }));
    box.hidden = false;
    box.style.left = `${Math.min(Math.max(0, x(epoch) + 12), Math.max(0, width - box.offsetWidth - 4))}px`;
    if (x(epoch) > width / 2) box.style.left = `${Math.max(0, x(epoch) - box.offsetWidth - 12)}px`;
  };
  const hide = () => { box.hidden = true; rule.setAttribute("d", ""); };
  chart.addEventListener("pointermove", (event) => {
    const place = event.clientX - chart.getBoundingClientRect().left;
    read(Math.round(first + ((place - x(first)) / Math.max(1, x(last) - x(first))) * (last - first)));
  });
  chart.addEventListener("pointerleave", hide);
  chart.addEventListener("blur", hide);
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    read(epoch + step);
  });
  return box;
}

// The distribution of errors: one run as bars, PCA as a line, and the threshold.
function errorChart(container, r) {
  responsive(container, (width) => {
    const { edges, runs, beyond } = DATA.histogram, pca = DATA.histogram.pca_clipped ?? DATA.histogram.pca;
    const applies = !DATA.runs[r].region && !DATA.in_raw_units; // a region's threshold, or one in other units, is none of these errors
    const counts = runs[r], limit = applies ? DATA.runs[r].threshold : null;
    const height = 220, left = 46, right = 12, top = 26, foot = 40, end = edges[edges.length - 1];
    const most = Math.max(...counts, ...pca.slice(0, -1), 1);
    const x = (value) => left + (value / end) * (width - left - right);
    const y = (count) => top + (1 - Math.min(1, count / most)) * (height - top - foot);
    const chart = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `Distribution of the squared errors of ${DATA.items} ${FORM.item_name}s; median ${figures(DATA.histogram.medians[r])}` });
    for (const tick of linearTicks(most, 3)) {
      chart.append(svg("path", { d: `M${left} ${y(tick)}H${width - right}`, class: "grid" }),
        svg("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, tick.toLocaleString("en")));
    }
    counts.forEach((count, i) => {
      const bar = svg("rect", { x: x(edges[i]) + 0.5, y: y(count), width: Math.max(0.5, x(edges[i + 1]) - x(edges[i]) - 1),
        height: y(0) - y(count), class: `bar run-${r}${limit !== null && edges[i] >= limit ? " outside" : ""}` });
      const more = i === counts.length - 1 && beyond[r] ? ` or more` : ` to ${figures(edges[i + 1])}`;
      bar.append(svg("title", {}, `${count.toLocaleString("en")} ${FORM.item_name}s: ${figures(edges[i])}${more}`));
      chart.append(bar);
    });
    const steps = pca.map((count, i) => `${i ? "L" : "M"}${x(edges[i]).toFixed(1)} ${y(count).toFixed(1)}H${x(edges[i + 1]).toFixed(1)}`);
    chart.append(svg("path", { d: steps.join(""), class: "curve pca thin" }));
    if (limit !== null) {
      const flips = x(limit) > width * 0.6;
      chart.append(svg("path", { d: `M${x(limit)} ${top - 8}V${y(0)}`, class: "limit" }),
        svg("text", { x: x(limit) + (flips ? -5 : 5), y: top - 12, "text-anchor": flips ? "end" : "start" }, `threshold${WINDOWED ? " of the window score" : ""} ${figures(limit)}`));
    }
    const ticks = linearTicks(end, width < 420 ? 4 : 7);
    for (const tick of ticks) chart.append(svg("text", { x: x(tick), y: y(0) + 16, "text-anchor": "middle" }, tickText(tick, ticks)));
    chart.append(svg("text", { x: left, y: height - 6, class: "axis" }, `${WINDOWED ? FORM.error_name : `squared error per ${FORM.item_name}`}${DATA.in_raw_units ? ", in the data's units" : ""}${beyond[r] && width > 420 ? "; the last bar holds all larger errors" : ""}`));
    container.replaceChildren(chart);
  });
}
