// Fills the template's placeholders with charts, pictures and the live model.

function each(selector, act) {
  document.querySelectorAll(selector).forEach((place) => act(place, Number(place.dataset.run ?? 0)));
}

// Paints the best, median and worst items into the rows of the template.
function paintShown() {
  const { shown } = DATA;
  if (!shown.originals) return;
  const [, height, width] = shown.originals.shape;
  each("[data-shown]", (place) => {
    const [kind, index] = [place.dataset.shown, Number(place.dataset.index)];
    const run = Number(place.dataset.run ?? 0);
    const canvas = el("canvas", { width, height, class: "picture", role: "img", "aria-label": place.dataset.alt });
    const original = row(shown.originals, index);
    place.append(canvas);
    if (kind === "original") paintBytes(canvas, original);
    if (kind === "answer") paintBytes(canvas, row(shown.answers[run], index));
    if (kind === "pca") paintBytes(canvas, row(shown.pca, index));
    if (kind === "error") painted(() => paintSigned(canvas, byteDifference(row(shown.answers[run], index), original, width * height)));
  });
}

function byteDifference(answer, original, size) {
  const depth = original.length / size;
  return Float32Array.from({ length: size }, (_, i) => {
    let sum = 0;
    for (let c = 0; c < depth; c++) sum += answer[depth * i + c] - original[depth * i + c];
    return sum / (255 * depth);
  });
}

// The detail view of the map: an item beside its reconstruction.
function mapDetail(container, r) {
  const network = NETWORKS[r];
  const canvases = [pictureCanvas("the item"), pictureCanvas("its reconstruction")];
  const text = el("p", { role: "status" }, "Point at the map, or use the arrow keys. A click or Enter chooses an item as A or B.");
  container.append(el("div", { class: "beside" }, ...(network ? canvases : canvases.slice(0, 1))), text);
  return {
    show(i) {
      const values = heldItem(i);
      if (values === null) {
        text.textContent = `${itemName(i)}: not stored in this page`;
        return;
      }
      paintItem(canvases[0], values);
      const answer = network ? network.reconstruct(values) : null;
      if (answer) paintItem(canvases[1], answer, values);
      text.textContent = answer ? `${itemName(i)}: squared error ${figures(squaredError(values, answer))}` : itemName(i);
    },
  };
}

async function main() {
  document.documentElement.classList.add("scripted");
  if (!("DecompressionStream" in window)) throw new Error("this browser is too old for the charts; the tables still work");
  await unpack();
  DATA.runs.forEach((run) => NETWORKS.push(run.network.missing === null ? new Network(run.network) : null));
  firstPins();
  each("[data-curves]", (place) => curvesChart(place));
  each("[data-errors]", (place, r) => errorChart(place, r));
  paintShown();
  each("[data-window]", (place) => windowChart(place, Number(place.dataset.window)));
  each("[data-map]", (place, r) => {
    const detail = el("div", { class: "detail" });
    codeMap(place, r, mapDetail(detail, r));
    place.append(detail);
  });
  each("[data-units]", (place, r) => unitCharts(place, DATA.runs[r].code));
  each("[data-correlation]", (place, r) => correlationChart(place, DATA.runs[r].code));
  each("[data-features]", (place, r) => featureChart(place, DATA.runs[r].features));
  let bench = null;
  if (NETWORKS.some(Boolean)) {
    bench = new Bench();
    each("[data-bench]", (place) => bench.mount(place));
    redraws.push(() => bench.schedule());
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraws.forEach((paint) => paint()));
  window.tiedae = { runs: DATA.runs.map((run, r) => ({ name: run.name, network: NETWORKS[r] })), bench, pins, pin, item: heldItem };
  document.documentElement.classList.add("ready");
}

main().catch((error) => {
  document.documentElement.classList.add("failed");
  document.getElementById("failure").textContent = `The charts cannot be shown: ${error.message}`;
  console.error(error);
});
