// Windows of a series as lines over time: charts with one plot per column, and small pictures with one lane per column.

const WINDOWED = FORM.window > 1;
const LANE = 44, TEXT = 11; // pixels: height of a lane in a small picture, and of its name

function windowHeight() {
  return Math.max(120, LANE * DATA.shown.lanes.length);
}

// Paints a window, and a second one beside it in the color of text; each lane is at least three deviations high.
function paintWindow(canvas, values, beside) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  const { lanes } = DATA.shown;
  const small = canvas.classList.contains("thumb");
  const lane = height / lanes.length;
  context.clearRect(0, 0, width, height);
  lanes.forEach(({ column, name }, l) => {
    const line = (from) => Array.from({ length: HEIGHT }, (_, t) => from[t * WIDTH + column]);
    const lines = beside ? [line(beside), line(values)] : [line(values)];
    const low = Math.min(-1.5, ...lines.flat()), high = Math.max(1.5, ...lines.flat());
    const room = lane - 6 - (small ? 0 : TEXT);
    const y = (value) => lane * (l + 1) - 3 - ((value - low) / (high - low)) * room;
    context.fillStyle = color("--line");
    if (l) context.fillRect(0, Math.round(lane * l), width, small ? 2 : 1);
    lines.forEach((own, n) => {
      context.strokeStyle = color(beside && n === 0 ? "--ink" : "--run-0");
      context.lineWidth = small ? 5 : 1.5;
      context.beginPath();
      own.forEach((value, t) => context.lineTo((t / (HEIGHT - 1)) * width, y(value)));
      context.stroke();
    });
    if (small) return;
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = color("--quiet");
    context.fillText(name, 4, lane * l + TEXT, width - 8);
  });
}

// Draws window i of those shown: one plot per column with the original, each model's reconstruction and PCA's.
function windowChart(container, i) {
  const { windows } = DATA.shown;
  const several = DATA.runs.length > 1;
  const entries = [["curve original", "original"], ...DATA.runs.map((run, r) => [`curve thin run-${r}`, several ? run.name : "reconstruction"]), ["curve pca thin", "PCA"]];
  const plots = el("div", { class: "lanes" });
  const drawn = windows.columns[i].length;
  const note = drawn < windows.of ? el("p", { class: "quiet" }, `The ${drawn} of ${windows.of} columns with the largest errors.`) : null;
  container.replaceChildren(...[legend(entries), note, plots].filter(Boolean));
  windows.columns[i].forEach((name, c) => {
    const plot = el("div", {});
    plots.append(el("figure", {}, plot, el("figcaption", {}, name)));
    const line = (entry) => row(entry, i).subarray(c * HEIGHT, (c + 1) * HEIGHT);
    const lines = [[line(windows.pca), "curve pca thin"], [line(windows.originals), "curve original"],
      ...windows.answers.map((answer, r) => [line(answer), `curve thin run-${r}`])];
    responsive(plot, (width) => plot.replaceChildren(lanePlot(width, name, windows.titles[i], lines)));
  });
}

function lanePlot(width, name, title, lines) {
  const height = 104, left = 58, right = 6, top = 8, foot = 20;
  const values = lines.flatMap(([own]) => Array.from(own));
  const low = Math.min(...values), high = Math.max(...values), span = high - low || Math.abs(high) || 1;
  const x = (t) => left + (t / (HEIGHT - 1)) * (width - left - right);
  const y = (value) => top + ((high - value) / span) * (height - top - foot);
  const chart = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${name}, ${title}: from ${figures(low)} to ${figures(high)}` });
  for (const tick of high > low ? [low, high] : [low]) {
    chart.append(svg("path", { d: `M${left} ${y(tick)}H${width - right}`, class: "grid" }),
      svg("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, figures(tick, 4)));
  }
  for (const [own, className] of lines) {
    const path = Array.from(own, (value, t) => `${t ? "L" : "M"}${x(t).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    chart.append(svg("path", { d: path, class: className }));
  }
  const steps = width < 260 ? 2 : 4; // rows of the window, from 1 as in the tables
  for (let step = 0; step <= steps; step++) {
    const t = Math.round((step / steps) * (HEIGHT - 1));
    const anchor = step === 0 ? "start" : step === steps ? "end" : "middle";
    chart.append(svg("text", { x: x(t), y: height - 5, "text-anchor": anchor }, step === 0 ? "row 1" : String(t + 1)));
  }
  return chart;
}
