// The live model: a drawing board (or fields for a vector's values), each model's reconstruction, sliders along the code, a morph.

const LIVELY = 120; // milliseconds without a change before the slow pictures are redrawn
const NETWORKS = []; // one per run; null if the page does not hold its weights
const pins = [null, null]; // items A and B, as indices on the map
const onPins = [];
let nextPin = 0;

function pin(i, n = nextPin) {
  if (heldItem(i) === null) return;
  pins[n] = i;
  nextPin = 1 - n;
  onPins.forEach((act) => act());
}

function button(text, act, attributes = {}) {
  return el("button", { type: "button", onclick: act, ...attributes }, text);
}

function slider(label, attributes, act) {
  const input = el("input", { type: "range", ...attributes, oninput: () => act(Number(input.value)) });
  const value = el("output", {});
  return { input, value, field: el("label", { class: "slider" }, el("span", {}, label), input, value) };
}

// Noise that stays the same until `draw` is called: standard normal, or uniform in [0, 1).
class Noise {
  constructor() {
    this.draw();
  }

  draw() {
    this.uniform = Float32Array.from({ length: FORM.values }, Math.random);
    this.normal = this.uniform.map((u) => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * u));
  }

  // Corrupts an item as the training does.
  onto(clean, kind, level) {
    if (!level) return clean;
    if (kind === "masking") return clean.map((value, i) => (this.uniform[i] < level ? 0 : value));
    if (kind === "salt_and_pepper") {
      return clean.map((value, i) => (this.uniform[i] < level / 2 ? 0 : this.uniform[i] >= 1 - level / 2 ? 1 : value));
    }
    return clean.map((value, i) => value + level * this.normal[i]);
  }
}

// The drawing board for images; `values` holds the drawing as the models see it.
class DrawingBoard {
  constructor(changed) {
    this.changed = changed;
    this.paper = paperOf();
    this.values = new Float32Array(FORM.values).fill(this.paper);
    this.source = "";
    this.radius = Math.max(0.55, Math.min(WIDTH, HEIGHT) * 0.045);
    this.erases = false;
    this.cursor = [Math.floor(WIDTH / 2), Math.floor(HEIGHT / 2)];
    this.canvas = pictureCanvas("", "picture board");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("aria-label", "Drawing board. Draw with the pointer, or move with the arrow keys and press the space bar to draw.");
    this.listen();
  }

  listen() {
    const { canvas } = this;
    let last = null;
    const point = (event) => {
      const box = canvas.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * WIDTH, ((event.clientY - box.top) / box.height) * HEIGHT];
    };
    canvas.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      last = point(event);
      this.begin();
      this.line(last, last);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      for (const each of event.getCoalescedEvents?.() ?? [event]) {
        const next = point(each);
        this.line(last, next);
        last = next;
      }
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });
    canvas.addEventListener("keydown", (event) => {
      const [across, down] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] || [0, 0];
      if (across || down) {
        event.preventDefault();
        const before = this.cursor;
        this.cursor = [Math.max(0, Math.min(WIDTH - 1, before[0] + across)), Math.max(0, Math.min(HEIGHT - 1, before[1] + down))];
        if (this.down) this.line(before.map((c) => c + 0.5), this.cursor.map((c) => c + 0.5));
        else this.changed(false);
      } else if (event.key === " " || event.key === "Enter") {
        event.preventDefault();
        this.down = !this.down;
        this.begin();
        if (this.down) this.line(this.cursor.map((c) => c + 0.5), this.cursor.map((c) => c + 0.5));
      }
    });
    canvas.addEventListener("blur", () => { this.down = false; });
  }

  begin() {
    this.before = this.values.slice();
    this.cover = new Float32Array(WIDTH * HEIGHT);
  }

  // Draws ink along a line, in pixels of the item; a stroke that crosses itself adds no ink there.
  line(from, to) {
    this.source = "";
    const ink = this.erases ? [this.paper, this.paper, this.paper] : this.ink();
    const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) * 4));
    const reach = this.radius + 1, size = WIDTH * HEIGHT;
    for (let s = 0; s <= steps; s++) {
      const [cx, cy] = [0, 1].map((axis) => from[axis] + ((to[axis] - from[axis]) * s) / steps);
      for (let y = Math.max(0, Math.floor(cy - reach)); y < Math.min(HEIGHT, cy + reach); y++) {
        for (let x = Math.max(0, Math.floor(cx - reach)); x < Math.min(WIDTH, cx + reach); x++) {
          const covered = Math.max(0, Math.min(1, this.radius + 0.5 - Math.hypot(x + 0.5 - cx, y + 0.5 - cy)));
          const i = y * WIDTH + x;
          if (covered <= this.cover[i]) continue;
          this.cover[i] = covered;
          for (let c = 0; c < CHANNELS; c++) {
            const k = c * size + i;
            this.values[k] = this.before[k] + ((ink[c] ?? 1) - this.before[k]) * covered;
          }
        }
      }
    }
    this.changed();
  }

  ink() {
    if (this.palette) return channelsOf(this.palette.value).map((level) => level / 255);
    return new Array(CHANNELS).fill(1 - this.paper);
  }

  set(values, source = "") {
    this.values = Float32Array.from(values);
    this.source = source;
    this.begin();
    this.changed();
  }

  // Moves the drawing's center of mass to the middle, as in MNIST's preprocessing.
  center() {
    const size = WIDTH * HEIGHT;
    let mass = 0, mx = 0, my = 0;
    this.values.forEach((value, k) => {
      const weight = Math.abs(value - this.paper), i = k % size;
      mass += weight;
      mx += weight * (i % WIDTH);
      my += weight * Math.floor(i / WIDTH);
    });
    if (!mass) return;
    const dx = Math.round((WIDTH - 1) / 2 - mx / mass), dy = Math.round((HEIGHT - 1) / 2 - my / mass);
    this.set(this.values.map((_, k) => {
      const x = (k % size) % WIDTH - dx, y = Math.floor((k % size) / WIDTH) - dy;
      return x < 0 || y < 0 || x >= WIDTH || y >= HEIGHT ? this.paper : this.values[k - (k % size) + y * WIDTH + x];
    }));
  }

  paint(values) {
    paintItem(this.canvas, values);
    if (document.activeElement !== this.canvas || !this.canvas.matches(":focus-visible")) return;
    const context = this.canvas.getContext("2d");
    context.fillStyle = this.down ? color("--above") : color("--run-0");
    context.fillRect(...this.cursor, 1, 1);
  }

  controls() {
    const eraser = button("Erase", () => {
      this.erases = !this.erases;
      eraser.setAttribute("aria-pressed", String(this.erases));
    }, { "aria-pressed": "false" });
    if (CHANNELS >= 3) this.palette = el("input", { type: "color", value: this.paper > 0.5 ? "#000000" : "#ffffff", "aria-label": "Ink" });
    return [button("Clear", () => this.set(new Float32Array(FORM.values).fill(this.paper)), { class: "clear" }),
      button("Center", () => this.center()), eraser, this.palette ?? null];
  }
}

// The most common color of the items' borders: 0 (black) or 1 (white).
function paperOf() {
  let sum = 0, count = 0;
  for (let i = 0; i < Math.min(DATA.map.held, 100); i++) {
    const values = heldItem(i);
    for (let x = 0; x < WIDTH; x++) { sum += values[x] + values[(HEIGHT - 1) * WIDTH + x]; count += 2; }
  }
  return sum / count > 0.5 ? 1 : 0;
}

// The board for vectors: a field for each value, in the data's units.
class VectorBoard {
  constructor(changed) {
    this.changed = changed;
    this.values = new Float32Array(FORM.values);
    this.source = "";
    this.canvas = pictureCanvas(`The ${FORM.item_name}, in deviations from the mean`);
    const network = NETWORKS.find(Boolean);
    [this.scale, this.offset] = [network.scale, network.offset];
    this.fields = FORM.columns.slice(0, 200).map((name, k) => {
      const number = el("input", { type: "number", step: "any", "aria-label": name, onchange: () => this.put(k, Number(number.value)) });
      const answer = el("td", { class: "number" }), miss = el("td", { class: "number" });
      return { number, answer, miss, line: el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, number), answer, miss) };
    });
    this.table = el("table", { class: "values" }, el("thead", {}, el("tr", {}, ...["column", "value", "reconstruction", "error"].map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, ...this.fields.map((field) => field.line)));
  }

  raw(value, k) {
    return value / this.scale[k] + this.offset[k];
  }

  put(k, raw) {
    this.source = "";
    this.values[k] = (raw - this.offset[k]) * this.scale[k];
    this.changed();
  }

  set(values, source = "") {
    this.values = Float32Array.from(values);
    this.source = source;
    this.changed();
  }

  paint(values) {
    paintItem(this.canvas, values);
    this.fields.forEach((field, k) => {
      if (document.activeElement !== field.number) field.number.value = String(Number(this.raw(this.values[k], k).toPrecision(6)));
    });
  }

  // Shows the first model's reconstruction of each value, and its error in the model's units.
  showErrors(answer) {
    this.fields.forEach((field, k) => {
      field.answer.textContent = figures(this.raw(answer[k], k), 4);
      field.miss.textContent = figures(answer[k] - this.values[k], 2);
      field.line.classList.toggle("off", Math.abs(answer[k] - this.values[k]) > 2);
    });
  }

  controls() {
    return [button("Set to the means", () => this.set(new Float32Array(FORM.values)), { class: "clear" })];
  }
}

// One model's reconstruction of the board, its error beside the threshold, and its error map.
class Answer {
  constructor(r) {
    this.run = DATA.runs[r];
    this.network = NETWORKS[r];
    this.canvas = pictureCanvas(`Reconstruction by ${this.run.name}`);
    this.errors = IMAGES ? pictureCanvas(`Error map of ${this.run.name}`, "picture small") : null;
    this.needle = svg("rect", { y: 2, height: 10, rx: 2, class: `needle run-${r}` });
    this.mark = svg("path", { class: "limit" });
    this.text = el("p", { class: "verdict-line" });
    this.pane = el("figure", { class: "answer" },
      el("figcaption", {}, DATA.runs.length > 1 ? this.run.name : "Reconstruction"),
      el("div", { class: "beside" }, this.canvas, this.errors),
      svg("svg", { viewBox: "0 0 200 14", class: "gauge", "aria-hidden": true }, svg("rect", { y: 2, width: 200, height: 10, rx: 2, class: "groove" }), this.needle, this.mark),
      this.text);
  }

  show(clean, input) {
    this.value = this.network.reconstruct(input);
    this.error = this.network.error(this.value, clean);
    this.score = this.run.region ? largestRegionError(this.value, clean, this.run.region) : this.error;
    paintItem(this.canvas, this.value, clean);
    if (this.errors) paintSigned(this.errors, differenceOf(this.value, clean));
    const limit = this.run.threshold;
    const end = limit === null ? Math.max(this.score, 1e-9) * 1.2 : Math.max(2 * limit, 1.05 * this.score);
    this.needle.setAttribute("width", Math.max(1, (200 * this.score) / end));
    this.needle.classList.toggle("outside", limit !== null && this.score > limit);
    if (limit !== null) this.mark.setAttribute("d", `M${(200 * limit) / end} 0V14`);
    const noise = this.network.error(input, clean);
    const before = noise > 0 ? `Squared error of the noise: ${figures(noise)}; after reconstruction: ${figures(this.error)}. ` : `${FORM.error_name[0].toUpperCase()}${FORM.error_name.slice(1)} ${figures(this.error)}. `;
    const region = this.run.region ? `Most anomalous ${this.run.region} x ${this.run.region} pixels: ${figures(this.score)}. ` : "";
    const windows = WINDOWED ? " of the window score" : "";
    const verdict = limit === null ? "" : this.score > limit ? `Above the threshold${windows}, ${figures(limit)}: an anomaly.` : `Below the threshold${windows}, ${figures(limit)}: normal.`;
    this.text.textContent = before + region + verdict;
  }
}

// Sliders along the strongest principal directions of the code; they start at the board's code.
class Sliders {
  constructor() {
    this.canvas = pictureCanvas("The reconstruction of the code that the sliders set");
    this.list = el("div", { class: "directions" });
    this.pane = el("div", { class: "sliders" }, el("figure", {}, this.canvas, el("figcaption", {}, "decoded from the sliders' code")), this.list);
  }

  use(network) {
    this.network = network;
    this.rows = network.deviations.map((_, i) => {
      const ends = [-3, 3].map((end) => pictureCanvas(`direction ${i + 1} at ${end} deviations`, "thumb"));
      const share = network.shares[i];
      const made = slider(`${i + 1}: ${Math.round(100 * share)}%`, { min: -4, max: 4, step: 0.05, "aria-label": `direction ${i + 1}, ${Math.round(100 * share)}% of the code's variance` }, () => this.show());
      return { ...made, ends, line: el("div", { class: "direction" }, ends[0], made.field, ends[1]) };
    });
    this.list.replaceChildren(...this.rows.map((each) => each.line));
  }

  start(code) {
    this.code = code;
    this.from = this.network.coordinates(code);
    this.rows.forEach((each, i) => { each.input.value = this.from[i]; });
    this.from = this.rows.map((each, i) => Math.max(-4, Math.min(4, this.from[i])));
    this.show();
  }

  steps() {
    return this.rows.map((each, i) => {
      const value = Number(each.input.value);
      return Math.abs(value - this.from[i]) < 0.051 ? 0 : value - this.from[i];
    });
  }

  show() {
    this.value = this.network.decode(this.network.moved(this.code, this.steps()));
    paintItem(this.canvas, this.value);
    this.rows.forEach((each) => { each.value.textContent = Number(each.input.value).toFixed(1); });
  }

  // Draws the reconstruction at both ends of each direction.
  showEnds() {
    this.rows.forEach((each, i) => [-3, 3].forEach((end, side) => {
      const steps = this.rows.map((_, j) => (j === i ? end - this.from[j] : 0));
      paintItem(each.ends[side], this.network.decode(this.network.moved(this.code, steps)));
    }));
  }
}

// The morph from item A to item B: by interpolating codes, and by interpolating values.
class Morph {
  constructor() {
    this.ends = [pictureCanvas("item A"), pictureCanvas("item B")];
    this.captions = [el("figcaption"), el("figcaption")];
    this.through = [pictureCanvas("between A and B, interpolated codes"), pictureCanvas("between A and B, interpolated values")];
    this.strips = [0, 1].map(() => Array.from({ length: 9 }, (_, s) => pictureCanvas(`step ${s + 1} of 9`, "thumb")));
    this.at = slider("from A to B", { min: 0, max: 1, step: 0.01, value: 0.5 }, () => this.show());
    const figure = (canvas, caption) => el("figure", {}, canvas, caption);
    this.pane = el("div", { class: "morph" },
      figure(this.ends[0], this.captions[0]),
      figure(this.through[0], el("figcaption", {}, "interpolated codes")),
      figure(this.through[1], el("figcaption", {}, `interpolated ${FORM.value_name}s`)),
      figure(this.ends[1], this.captions[1]),
      el("div", { class: "wide" }, this.at.field, ...this.strips.map((strip) => el("div", { class: "strip" }, ...strip))));
  }

  use(network) {
    this.network = network;
    this.update();
  }

  update() {
    const [a, b] = pins.map(heldItem);
    this.items = [a, b];
    this.codes = this.items.map((item) => this.network.encode(item));
    pins.forEach((i, n) => {
      paintItem(this.ends[n], this.items[n]);
      this.captions[n].textContent = `${"AB"[n]}: ${itemName(i)}`;
      this.ends[n].setAttribute("aria-label", this.captions[n].textContent);
    });
    this.strips.forEach((strip, way) => strip.forEach((canvas, s) => paintItem(canvas, this.between(way, s / 8))));
    this.show();
  }

  between(way, t) {
    return way === 0 ? this.network.decode(mixed(...this.codes, t)) : mixed(...this.items, t);
  }

  show() {
    const t = Number(this.at.input.value);
    this.through.forEach((canvas, way) => paintItem(canvas, this.between(way, t)));
    this.at.value.textContent = `${Math.round(100 * t)}%`;
  }
}

// The workbench: all parts of the live model, updated once per frame.
class Bench {
  constructor() {
    this.board = IMAGES ? new DrawingBoard((whole) => this.schedule(whole)) : new VectorBoard((whole) => this.schedule(whole));
    this.noise = new Noise();
    this.level = 0;
    this.times = [];
    this.answers = NETWORKS.flatMap((network, r) => (network ? [new Answer(r)] : []));
    this.sliders = new Sliders();
    this.morph = new Morph();
    this.caption = el("p", { class: "quiet" });
    this.clock = el("p", { class: "quiet clock" });
    this.spoken = el("p", { class: "unseen", role: "status" });
    const trained = DATA.runs.map((run) => run.corruption).find((corruption) => corruption.kind !== "none");
    this.kind = trained ? trained.kind : "gaussian";
    const words = { gaussian: "noise", masking: "masked values", salt_and_pepper: "salt and pepper" };
    this.fader = slider(words[this.kind], { min: 0, max: 1, step: 0.01, value: 0 }, (level) => { this.level = level; this.schedule(); });
    this.trained = trained ? el("p", { class: "quiet" }, `Trained to remove ${words[this.kind]} of level ${trained.level}.`) : null;
    onPins.push(() => this.morph.update());
  }

  mount(container) {
    const { board } = this;
    let number = 0;
    const show = (i) => { number = i; board.set(heldItem(i), itemName(i)); };
    const next = () => show((number + 1) % DATA.map.held);
    const choices = DATA.runs.flatMap((run, r) => (NETWORKS[r] ? [el("option", { value: r }, run.name)] : []));
    const choice = el("select", { "aria-label": "Model", onchange: () => this.use(Number(choice.value)) }, ...choices);
    container.append(
      el("div", { class: "bench" },
        el("div", { class: "pane" }, el("h3", {}, IMAGES ? "Draw here" : "Set the values"), board.canvas,
          el("div", { class: "buttons" }, ...board.controls(), button(`Next ${FORM.item_name}`, next, { class: "next" })), this.caption,
          this.fader.field, el("div", { class: "buttons" }, button("New noise", () => { this.noise.draw(); this.schedule(); })), this.trained),
        el("div", { class: "pane" }, el("div", { class: "answers" }, ...this.answers.map((answer) => answer.pane)), this.clock, this.spoken),
        board.table ? el("div", { class: "pane scroll" }, board.table) : null),
      choices.length > 1 ? el("p", {}, "Sliders and morph use ", choice) : "",
      el("h3", {}, "Explore the code"),
      el("p", { class: "quiet" }, "Each slider moves the code of the item on the board along one of its strongest principal directions, from -4 to 4 standard deviations. The pictures at its ends show -3 and 3."),
      el("div", { class: "buttons" }, button("Back to the board", () => this.sliders.start(this.code)), button("The mean code", () => this.sliders.start(this.sliders.network.meanCode))),
      this.sliders.pane,
      el("h3", {}, "Morph"),
      el("p", { class: "quiet" }, "Click items on the map of codes below to choose A and B. The upper strip interpolates codes, the lower one values."),
      el("div", { class: "buttons" }, ...["A", "B"].map((name, n) => button(`Another ${name}`, () => pin((pins[n] + 1 + n) % DATA.map.held, n)))),
      this.morph.pane);
    choice.value = String(NETWORKS.findIndex(Boolean));
    this.use(Number(choice.value));
    show(0);
  }

  use(r) {
    this.network = NETWORKS[r];
    this.sliders.use(this.network);
    this.morph.use(this.network);
    if (this.input) this.settle();
  }

  schedule() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.frame(); });
  }

  // Draws one frame: noise, each model's reconstruction, all pictures.
  frame() {
    const start = performance.now();
    const clean = this.board.values;
    this.input = this.noise.onto(clean, this.kind, this.level);
    this.board.paint(this.input);
    this.caption.textContent = this.board.source || "your drawing or values";
    for (const answer of this.answers) answer.show(clean, this.input);
    if (this.board.showErrors) this.board.showErrors(this.answers[0].value);
    this.fader.value.textContent = this.level.toFixed(2);
    this.times.push(performance.now() - start);
    if (this.times.length > 60) this.times.shift();
    const median = [...this.times].sort((a, b) => a - b)[this.times.length >> 1];
    this.clock.textContent = median < 0.1 ? "computed on this device" : `${figures(median, 2)} ms per frame, computed on this device`;
    clearTimeout(this.later);
    this.later = setTimeout(() => this.settle(), LIVELY);
  }

  // Draws the slow pictures, once the input has stopped changing.
  settle() {
    this.code = this.network.encode(this.input);
    this.sliders.start(this.code);
    this.sliders.showEnds();
    this.spoken.textContent = this.answers.map((answer) => answer.text.textContent).join(" ");
  }
}

// Chooses two items with different labels, so the morph starts with a useful example.
function firstPins() {
  const { labels, held } = DATA.map;
  const other = labels ? labels.findIndex((label, i) => i < held && label !== labels[0]) : -1;
  pins[0] = 0;
  pins[1] = other > 0 ? other : held - 1;
}
