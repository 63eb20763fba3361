// What the page was given: a JSON document, and one compressed block in which its arrays lie.

const DATA = JSON.parse(document.getElementById("data").textContent);
const TYPES = { Uint8Array, Int8Array, Int16Array, Uint16Array, Float32Array };
const FORM = DATA.form;
const IMAGES = FORM.kind === "images";
let block = null;

async function unpack() {
  const text = document.getElementById("block").textContent.trim();
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  block = await new Response(stream).arrayBuffer();
}

// The typed array that an entry of the document stands for.
function array(entry) {
  const count = entry.shape.reduce((product, size) => product * size, 1);
  return new TYPES[entry.array](block, entry.offset, count);
}

// Row i of an entry of two or more dimensions.
function row(entry, i) {
  const size = entry.shape.slice(1).reduce((product, count) => product * count, 1);
  return array(entry).subarray(i * size, (i + 1) * size);
}

// Makes an element. Text always becomes a text node, so that no name can be markup.
function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// A number with so many significant digits, without an exponent where that is legible.
function figures(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size < 1e-5 || size >= 1e7) return value.toExponential(digits - 1);
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
}

function labelOf(label) {
  if (label === null || label === undefined) return "";
  return DATA.label_names && DATA.label_names[label] !== undefined ? DATA.label_names[label] : String(label);
}

// Colors that a style sheet gives, for what is painted on a canvas.
function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const redraws = []; // what paints with colors of the style sheet, to be painted again when dark becomes light
function painted(paint) {
  redraws.push(paint);
  paint();
}

// Draws into a container for its width, and again when that changes.
function responsive(container, draw) {
  let width = 0;
  const again = () => {
    const now = Math.floor(container.clientWidth);
    if (now > 0 && now !== width) {
      width = now;
      draw(width);
    }
  };
  new ResizeObserver(again).observe(container);
  again();
}
