// The page's data: a JSON document and a compressed block with its arrays.

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

// Returns the typed array that an entry of the document refers to.
function array(entry) {
  const count = entry.shape.reduce((product, size) => product * size, 1);
  return new TYPES[entry.array](block, entry.offset, count);
}

// Returns row i of an entry with two or more dimensions.
function row(entry, i) {
  const size = entry.shape.slice(1).reduce((product, count) => product * count, 1);
  return array(entry).subarray(i * size, (i + 1) * size);
}

// Makes an element. Text always becomes a text node, so names cannot become markup.
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

// Formats a number with `digits` significant digits, without an exponent unless it is very large or small.
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

// Reads a color of the style sheet, for painting on a canvas.
function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const redraws = []; // functions that paint with the style sheet's colors; called again when dark mode changes
function painted(paint) {
  redraws.push(paint);
  paint();
}

// Draws into a container, and again when its width changes.
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
