// Pictures on canvases: gray, color, signed values around zero, and vectors as profiles.

const [CHANNELS, HEIGHT, WIDTH] = FORM.shape;

// Makes a canvas for a picture or a vector's profile, with a text alternative.
function pictureCanvas(alt, className = "picture") {
  const [width, height] = IMAGES ? [WIDTH, HEIGHT] : [320, WINDOWED ? windowHeight() : 200];
  return el("canvas", { width, height, class: IMAGES ? className : `${className} profile`, role: "img", "aria-label": alt });
}

// Paints values as the model sees them: channel by channel, in [0, 1].
function paintItem(canvas, values, beside = null) {
  if (WINDOWED) return paintWindow(canvas, values, beside);
  if (!IMAGES) return paintProfile(canvas, values, beside);
  const context = canvas.getContext("2d");
  const picture = context.createImageData(WIDTH, HEIGHT);
  const size = WIDTH * HEIGHT;
  for (let i = 0; i < size; i++) {
    for (let c = 0; c < 3; c++) {
      const value = values[CHANNELS >= 3 ? c * size + i : i];
      picture.data[4 * i + c] = Math.round(255 * Math.min(1, Math.max(0, value)));
    }
    picture.data[4 * i + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

// Paints bytes stored pixel by pixel, (H, W, 1 or 3).
function paintBytes(canvas, bytes) {
  const { width, height } = canvas;
  const depth = bytes.length / (width * height);
  const picture = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) picture.data[4 * i + c] = bytes[depth * i + (depth > 1 ? c : 0)];
    picture.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

function channelsOf(text) {
  const digits = text.replace("#", "");
  return [0, 2, 4].map((start) => parseInt(digits.slice(start, start + 2), 16));
}

// Paints signed values, (H, W): zero in the page's background color, +-1 in full color.
function paintSigned(canvas, values) {
  const [low, zero, high] = ["--below", "--zero", "--above"].map((name) => channelsOf(color(name)));
  const picture = new ImageData(canvas.width, canvas.height);
  for (let i = 0; i < values.length; i++) {
    const value = Math.max(-1, Math.min(1, values[i]));
    const end = value < 0 ? low : high;
    for (let c = 0; c < 3; c++) picture.data[4 * i + c] = zero[c] + (end[c] - zero[c]) * Math.abs(value);
    picture.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

// Returns the mean difference over channels, (H, W), of pictures stored channel by channel.
function differenceOf(answer, original) {
  const size = WIDTH * HEIGHT;
  const result = new Float32Array(size);
  for (let i = 0; i < answer.length; i++) result[i % size] += (answer[i] - original[i]) / CHANNELS;
  return result;
}

// Paints a vector as bars from zero, in the model's units, and a second one as dots.
function paintProfile(canvas, values, beside) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  const reach = Math.max(3, ...Array.from(values, Math.abs), ...(beside ? Array.from(beside, Math.abs) : []));
  const y = (value) => height / 2 - (value / reach) * (height / 2 - 6);
  const step = width / values.length;
  context.clearRect(0, 0, width, height);
  context.fillStyle = color("--run-0");
  for (let i = 0; i < values.length; i++) {
    const top = Math.min(y(0), y(values[i]));
    context.fillRect(i * step + step * 0.15, top, Math.max(1, step * 0.7), Math.max(1, Math.abs(y(values[i]) - y(0))));
  }
  context.fillStyle = color("--line");
  context.fillRect(0, y(0), width, 1);
  if (!beside) return;
  context.fillStyle = color("--ink");
  for (let i = 0; i < beside.length; i++) context.fillRect(i * step, y(beside[i]) - 1, Math.max(2, step), 2);
}

// Returns the values of item i of the map as the model sees them; null if the page does not hold them.
function heldItem(i) {
  if (i >= DATA.map.held) return null;
  const values = row(DATA.map.values, i);
  return IMAGES ? Float32Array.from(values, (level) => level / 255) : values;
}

function itemName(i) {
  const label = DATA.map.labels ? `, ${labelOf(DATA.map.labels[i])}` : "";
  const title = DATA.map.titles ? `, ${DATA.map.titles[i]}` : "";
  return `${FORM.item_name} ${DATA.map.indices[i]}${title}${label}`;
}
