// The model on typed arrays: a list of layers that encode and decode, as in the Python model.

const SELU_ALPHA = 1.6732632423543772;
const SELU_SCALE = 1.0507009873554805;

// Abramowitz & Stegun 7.1.26: |error| < 1.5e-7.
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const sum = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}

const ACTIVATIONS = {
  linear: (x) => x,
  relu: (x) => (x > 0 ? x : 0),
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
  selu: (x) => SELU_SCALE * (x > 0 ? x : SELU_ALPHA * Math.expm1(x)),
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  tanh: Math.tanh,
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  clip: (x) => Math.min(Math.max(x, 0), 1),
  softplus: (x) => (x > 20 ? x : Math.log1p(Math.exp(x))),
};

function activate(values, name) {
  const f = ACTIVATIONS[name];
  if (name !== "linear") for (let i = 0; i < values.length; i++) values[i] = f(values[i]);
  return values;
}

// Returns a weight as 32-bit floats; the page holds either these or 16-bit integers with a scale per row.
function weightOf(packed) {
  const values = array(packed.values);
  if (!packed.scale) return values;
  const scale = array(packed.scale);
  const size = values.length / scale.length;
  const weight = new Float32Array(values.length);
  for (let o = 0; o < scale.length; o++) for (let i = o * size; i < (o + 1) * size; i++) weight[i] = values[i] * scale[o];
  return weight;
}

// The base of all layers; a tied layer decodes with its encoder's weight.
function takeParameters(layer, spec) {
  layer.activation = spec.activation;
  layer.decoderActivation = spec.decoder_activation;
  layer.weight = weightOf(spec.weight);
  layer.transposed = spec.decoder_weight ? weightOf(spec.decoder_weight) : layer.weight;
  layer.encoderBias = array(spec.encoder_bias);
  layer.decoderBias = array(spec.decoder_bias);
}

// encode: f(W x + b); decode: g(W^T h + c). W is (outputs, inputs), row by row.
class Dense {
  constructor(spec) {
    this.inputs = spec.input_shape[0];
    this.outputs = spec.output_shape[0];
    takeParameters(this, spec);
  }

  encode(x) {
    const { inputs, weight } = this;
    const y = new Float32Array(this.outputs);
    const whole = inputs - (inputs % 4);
    for (let o = 0; o < y.length; o++) {
      const start = o * inputs;
      let a = 0, b = 0, c = 0, d = 0;
      for (let i = 0; i < whole; i += 4) {
        a += weight[start + i] * x[i];
        b += weight[start + i + 1] * x[i + 1];
        c += weight[start + i + 2] * x[i + 2];
        d += weight[start + i + 3] * x[i + 3];
      }
      for (let i = whole; i < inputs; i++) a += weight[start + i] * x[i];
      y[o] = a + b + c + d + this.encoderBias[o];
    }
    return activate(y, this.activation);
  }

  decode(h) {
    const { inputs, transposed } = this;
    const sum = Float64Array.from(this.decoderBias);
    for (let o = 0; o < this.outputs; o++) {
      const value = h[o];
      if (value === 0) continue;
      const start = o * inputs;
      for (let i = 0; i < inputs; i++) sum[i] += transposed[start + i] * value;
    }
    return activate(Float32Array.from(sum), this.decoderActivation);
  }
}

// A convolution with kernels W, (K, C, k, k), and stride s on images of (C, H, W) values; decode is its adjoint. One bias per channel.
class Convolution {
  constructor(spec) {
    [this.channels, this.height, this.width] = spec.input_shape;
    [this.kernels, this.high, this.wide] = spec.output_shape;
    const { kernel_shape: [kernel], strides: [stride], pads } = spec.operator[1];
    Object.assign(this, { kernel, stride, padding: pads });
    takeParameters(this, spec);
  }

  // Calls act(weight index, first output, first input, rows, outputs per row) for each weight.
  walk(act) {
    const { channels, height, width, kernels, high, wide, kernel, stride, padding } = this;
    for (let o = 0; o < kernels; o++) for (let c = 0; c < channels; c++) for (let u = 0; u < kernel; u++) for (let v = 0; v < kernel; v++) {
      const weight = ((o * channels + c) * kernel + u) * kernel + v;
      const first = Math.max(0, Math.ceil((padding[1] - v) / stride));
      const last = Math.min(wide - 1, Math.floor((width - 1 + padding[1] - v) / stride));
      for (let y = 0; y < high; y++) {
        const row = y * stride + u - padding[0];
        if (row < 0 || row >= height || last < first) continue;
        act(weight, (o * high + y) * wide + first, (c * height + row) * width + first * stride + v - padding[1], last - first + 1);
      }
    }
  }

  encode(x) {
    const { weight, stride } = this;
    const area = this.high * this.wide;
    const y = Float32Array.from({ length: this.kernels * area }, (_, i) => this.encoderBias[Math.floor(i / area)]);
    this.walk((place, output, input, count) => {
      const factor = weight[place];
      for (let i = 0; i < count; i++) y[output + i] += factor * x[input + i * stride];
    });
    return activate(y, this.activation);
  }

  decode(h) {
    const { transposed, stride } = this;
    const area = this.height * this.width;
    const x = Float32Array.from({ length: this.channels * area }, (_, i) => this.decoderBias[Math.floor(i / area)]);
    this.walk((place, output, input, count) => {
      const factor = transposed[place];
      for (let i = 0; i < count; i++) x[input + i * stride] += factor * h[output + i];
    });
    return activate(x, this.decoderActivation);
  }
}

const LAYERS = { Gemm: Dense, Conv: Convolution }; // by ONNX operator

class Network {
  constructor(spec) {
    this.layers = spec.layers.map((layer) => new LAYERS[layer.operator[0]](layer));
    this.path = spec.path && { ...spec.path, layer: new Dense(spec.path.layer), codeGate: array(spec.path.code_gate), outputGate: array(spec.path.output_gate) };
    this.topK = spec.code_top_k;
    this.meanCode = array(spec.mean_code);
    this.deviations = spec.deviations;
    this.shares = spec.shares;
    this.directions = spec.deviations.map((_, i) => row(spec.directions, i));
    this.scale = spec.form.scale;
    this.offset = spec.form.offset;
    this.ratio = spec.form.ratio; // of a model with another scaling than the page's; null if they are equal
    this.shift = spec.form.shift;
  }

  // Returns the squared error of a reconstruction in the model's own units.
  error(answer, target) {
    if (!this.ratio) return squaredError(answer, target);
    return squaredError(answer.map((value, i) => value * this.ratio[i]), target.map((value, i) => value * this.ratio[i]));
  }

  encode(values) {
    const x = this.ratio ? values.map((value, i) => value * this.ratio[i] + this.shift[i]) : values;
    let code = this.layers.reduce((seen, layer) => layer.encode(seen), x);
    if (this.path) code = this.path.layer.encode(x).map((value, k) => value + this.path.codeGate[k] * code[k]);
    if (this.topK === null || this.topK >= code.length) return code;
    const kept = Array.from(code.keys()).sort((a, b) => code[b] - code[a] || a - b).slice(0, this.topK);
    const sparse = new Float32Array(code.length);
    for (const unit of kept) sparse[unit] = code[unit];
    return sparse;
  }

  decode(code) {
    const made = this.decoded(code);
    return this.ratio ? made.map((value, i) => (value - this.shift[i]) / this.ratio[i]) : made;
  }

  // Returns a reconstruction in the model's own units.
  decoded(code) {
    const decoded = this.layers.reduceRight((values, layer) => layer.decode(values), code);
    if (!this.path) return decoded;
    const sum = this.path.layer.decode(code).map((value, i) => value + this.path.outputGate[i] * decoded[i]);
    return activate(sum, this.path.activation);
  }

  reconstruct(x) {
    return this.decode(this.encode(x));
  }

  // Returns a code's coordinates along the directions, in standard deviations from the mean.
  coordinates(code) {
    return this.directions.map((direction, i) => {
      let sum = 0;
      for (let k = 0; k < code.length; k++) sum += direction[k] * (code[k] - this.meanCode[k]);
      return this.deviations[i] > 0 ? sum / this.deviations[i] : 0;
    });
  }

  // Returns a code moved along each direction by a number of standard deviations.
  moved(code, steps) {
    const result = Float32Array.from(code);
    steps.forEach((step, i) => {
      const length = step * this.deviations[i];
      if (length) for (let k = 0; k < result.length; k++) result[k] += length * this.directions[i][k];
    });
    return result;
  }
}

// Returns the largest squared error of all squares with this side, summed over channels: the score `region`.
function largestRegionError(answer, target, side) {
  const [channels, height, width] = FORM.shape, wide = width + 1;
  const sums = new Float64Array((height + 1) * wide); // sums over all pixels above and to the left
  let most = 0;
  for (let y = 1; y <= height; y++) {
    for (let x = 1; x <= width; x++) {
      let square = 0;
      for (let c = 0; c < channels; c++) square += (answer[((c * height) + y - 1) * width + x - 1] - target[((c * height) + y - 1) * width + x - 1]) ** 2;
      sums[y * wide + x] = square + sums[(y - 1) * wide + x] + sums[y * wide + x - 1] - sums[(y - 1) * wide + x - 1];
      if (y < side || x < side) continue;
      most = Math.max(most, sums[y * wide + x] - sums[(y - side) * wide + x] - sums[y * wide + x - side] + sums[(y - side) * wide + x - side]);
    }
  }
  return most;
}

function squaredError(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return sum;
}

function mixed(a, b, t) {
  return a.map((value, i) => (1 - t) * value + t * b[i]);
}
