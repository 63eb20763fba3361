"""The Triton kernels of a step on CUDA: everything between two matrix products in one launch.

Each computes in float32, reads and writes each value once and sums in an order that depends only on the shapes, so results are
bit-identical from run to run. A NaN stays a NaN, which is how a divergence is detected.

Shapes: B items per batch, D values per item, N units of a layer, P parameters.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 512  # values per program of an elementwise kernel
ADAM_BLOCK = 1024
TILE = 2048  # values that a program with a sum over the batch holds at once
NARROWEST = 8  # columns of such a program: more programs at work, and 32 bytes of float32 per row
MOST_SUMS = 1024  # programs of the output kernel, because one program of the next one adds up their errors
ACTIVATIONS = ("linear", "elu", "selu", "relu", "sigmoid", "tanh", "silu", "gelu", "softplus", "clip")


@triton.jit
def _sigmoid(z):  # type: ignore[no-untyped-def]
    e = tl.exp(-tl.abs(z))  # never overflows
    return tl.where(z >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def _activated(z, ACTIVATION: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return f(z)."""
    y = z
    if ACTIVATION == "elu":
        y = tl.where(z > 0, z, tl.exp(tl.where(z > 0, 0.0, z)) - 1.0)
    elif ACTIVATION == "selu":
        negative = 1.6732632423543772 * (tl.exp(tl.where(z > 0, 0.0, z)) - 1.0)
        y = 1.0507009873554805 * tl.where(z > 0, z, negative)
    elif ACTIVATION == "relu":
        y = tl.where(z <= 0, 0.0, z)
    elif ACTIVATION == "sigmoid":
        y = _sigmoid(z)
    elif ACTIVATION == "tanh":
        y = 2.0 * _sigmoid(2.0 * z) - 1.0
    elif ACTIVATION == "silu":
        y = z * _sigmoid(z)
    elif ACTIVATION == "gelu":
        y = 0.5 * z * (1.0 + tl.erf(z * 0.7071067811865476))
    elif ACTIVATION == "softplus":
        y = tl.where(z > 0, z, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(z)))
    elif ACTIVATION == "clip":
        y = tl.where(z < 0, 0.0, tl.where(z > 1, 1.0, z))
    return y


@triton.jit
def _derived(gradient, kept, ACTIVATION: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the gradient of the pre-activation; ``kept`` is the result, or the pre-activation if the table says so."""
    result = gradient
    if ACTIVATION == "elu":
        result = tl.where(kept <= 0, gradient * (kept + 1.0), gradient)
    elif ACTIVATION == "selu":
        scale = 1.0507009873554805
        result = tl.where(kept <= 0, gradient * (kept + scale * 1.6732632423543772), gradient * scale)
    elif ACTIVATION == "relu":
        result = tl.where(kept <= 0, 0.0, gradient)
    elif ACTIVATION == "sigmoid":
        result = gradient * (1.0 - kept) * kept
    elif ACTIVATION == "tanh":
        result = gradient * (1.0 - kept * kept)
    elif ACTIVATION == "silu":
        s = _sigmoid(kept)
        result = gradient * s * (1.0 + kept * (1.0 - s))
    elif ACTIVATION == "gelu":
        density = tl.exp(-0.5 * kept * kept) * 0.3989422804014327
        result = gradient * (0.5 * (1.0 + tl.erf(kept * 0.7071067811865476)) + kept * density)
    elif ACTIVATION == "softplus":
        result = gradient * _sigmoid(kept)
    elif ACTIVATION == "clip":
        result = tl.where((kept <= 0) | (kept >= 1), 0.0, gradient)
    return result


@triton.jit
def _gather_kernel(  # type: ignore[no-untyped-def]
    rows, order, counter, offset, scale, fill, out, items, values,
    STANDARDIZES: tl.constexpr, FILLS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    item = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < values
    row = tl.load(order + tl.load(counter) * items + item)
    raw = tl.load(rows + row * values + columns, mask=inside)
    factor = tl.load(scale + columns, mask=inside)
    if STANDARDIZES:  # in the arithmetic of the training set, then rounded, as TrainingSet.normalize does
        x = raw.to(scale.dtype.element_ty)
        if FILLS:
            x = tl.where(x == x, x, tl.load(fill + columns, mask=inside))
        x = ((x - tl.load(offset + columns, mask=inside)) * factor).to(tl.float32)
    else:  # converted, then scaled, as Batch.fill does
        x = raw.to(tl.float32).to(out.dtype.element_ty).to(tl.float32) * factor.to(tl.float32)
    tl.store(out + item * values + columns, x.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _activate_kernel(  # type: ignore[no-untyped-def]
    product, bias, out, count, units, ACTIVATION: tl.constexpr, KEEPS_INPUT: tl.constexpr, BLOCK: tl.constexpr
):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = places < count
    z = tl.load(product + places, mask=inside).to(tl.float32)
    z += tl.load(bias + places % units, mask=inside).to(tl.float32)
    if KEEPS_INPUT:
        kept = z.to(product.dtype.element_ty)
        tl.store(product + places, kept, mask=inside)
        z = kept.to(tl.float32)
    tl.store(out + places, _activated(z, ACTIVATION).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _derive_kernel(  # type: ignore[no-untyped-def]
    gradient, kept, out, bias_gradient, items, units,
    ACTIVATION: tl.constexpr, CHUNKS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for chunk in range(CHUNKS):
        rows = chunk * ROWS + tl.arange(0, ROWS)
        inside = (rows < items)[:, None] & (columns < units)[None, :]
        places = rows[:, None] * units + columns[None, :]
        g = tl.load(gradient + places, mask=inside, other=0.0).to(tl.float32)
        y = tl.load(kept + places, mask=inside, other=0.0).to(tl.float32)
        result = _derived(g, y, ACTIVATION).to(out.dtype.element_ty)
        tl.store(out + places, result, mask=inside)
        total += tl.where(inside, result.to(tl.float32), 0.0)
    tl.store(bias_gradient + columns, tl.sum(total, 0).to(bias_gradient.dtype.element_ty), mask=columns < units)


@triton.jit
def _advance(  # type: ignore[no-untyped-def]
    counter, current, rates, steps, corrections, LOG_BETA1: tl.constexpr, LOG_BETA2: tl.constexpr
):
    """Move to the next step; called by one program, in a launch whose other programs do not read what it writes."""
    now = tl.load(counter)
    step = tl.load(steps) + 1.0
    tl.store(current, now)
    tl.store(counter, now + 1)
    tl.store(steps, step)
    precise = step.to(tl.float64)  # 1 - beta^t in float32 would lose four digits in the first step
    tl.store(corrections, (tl.load(rates + now) / (1.0 - tl.exp(precise * LOG_BETA1))).to(tl.float32))
    tl.store(corrections + 1, tl.sqrt(1.0 - tl.exp(precise * LOG_BETA2)).to(tl.float32))


@triton.jit
def _output_kernel(  # type: ignore[no-untyped-def]
    product, bias, target, gradient, bias_gradient, sums, counter, current, rates, steps, corrections, items, units,
    factor, leak, ACTIVATION: tl.constexpr, KEEPS_INPUT: tl.constexpr, SKIPS_DERIVATIVE: tl.constexpr, ADVANCES: tl.constexpr,
    LOG_BETA1: tl.constexpr, LOG_BETA2: tl.constexpr, CHUNKS: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    columns = program * COLUMNS + tl.arange(0, COLUMNS)
    c = tl.load(bias + columns, mask=columns < units, other=0.0).to(tl.float32)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    errors = tl.zeros((ROWS, COLUMNS), tl.float32)
    for chunk in range(CHUNKS):
        rows = chunk * ROWS + tl.arange(0, ROWS)
        inside = (rows < items)[:, None] & (columns < units)[None, :]
        places = rows[:, None] * units + columns[None, :]
        z = tl.load(product + places, mask=inside, other=0.0).to(tl.float32) + c[None, :]
        y = _activated(z, ACTIVATION)
        difference = y - tl.load(target + places, mask=inside, other=0.0).to(tl.float32)
        difference = tl.where(inside, difference, 0.0)
        errors += difference * difference
        g = difference * factor
        if not SKIPS_DERIVATIVE:
            g = _derived(g, z if KEEPS_INPUT else y, ACTIVATION) + g * leak
        result = g.to(gradient.dtype.element_ty)
        tl.store(gradient + places, result, mask=inside)
        total += result.to(tl.float32)
    tl.store(bias_gradient + columns, tl.sum(total, 0).to(bias_gradient.dtype.element_ty), mask=columns < units)
    tl.store(sums + program, tl.sum(tl.sum(errors, 1), 0))
    if ADVANCES:
        if program == 0:
            _advance(counter, current, rates, steps, corrections, LOG_BETA1, LOG_BETA2)


@triton.jit
def _code_kernel(product, bias, gate, encoded, code, copy, count, units, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = places < count
    unit = places % units
    z = tl.load(product + places, mask=inside).to(tl.float32) + tl.load(bias + unit, mask=inside).to(tl.float32)
    z += tl.load(gate + unit, mask=inside).to(tl.float32) * tl.load(encoded + places, mask=inside).to(tl.float32)
    tl.store(code + places, z.to(code.dtype.element_ty), mask=inside)
    tl.store(copy + places, z.to(copy.dtype.element_ty), mask=inside)


@triton.jit
def _path_output_kernel(  # type: ignore[no-untyped-def]
    network, network_bias, path, path_bias, gate, target, gradient, network_gradient,
    bias_gradient, gate_gradient, network_bias_gradient, sums, counter, current, rates, steps, corrections, items, units,
    factor, ACTIVATION: tl.constexpr, ADVANCES: tl.constexpr, LOG_BETA1: tl.constexpr, LOG_BETA2: tl.constexpr,
    CHUNKS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    columns = program * COLUMNS + tl.arange(0, COLUMNS)
    exists = columns < units
    c = tl.load(network_bias + columns, mask=exists, other=0.0).to(tl.float32)
    d = tl.load(path_bias + columns, mask=exists, other=0.0).to(tl.float32)
    b = tl.load(gate + columns, mask=exists, other=0.0).to(tl.float32)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    gate_total = tl.zeros((ROWS, COLUMNS), tl.float32)
    network_total = tl.zeros((ROWS, COLUMNS), tl.float32)
    errors = tl.zeros((ROWS, COLUMNS), tl.float32)
    for chunk in range(CHUNKS):
        rows = chunk * ROWS + tl.arange(0, ROWS)
        inside = (rows < items)[:, None] & exists[None, :]
        places = rows[:, None] * units + columns[None, :]
        decoded = tl.load(network + places, mask=inside, other=0.0).to(tl.float32) + c[None, :]
        z = tl.load(path + places, mask=inside, other=0.0).to(tl.float32) + d[None, :] + b[None, :] * decoded
        y = _activated(z, ACTIVATION)
        difference = y - tl.load(target + places, mask=inside, other=0.0).to(tl.float32)
        difference = tl.where(inside, difference, 0.0)
        errors += difference * difference
        result = _derived(difference * factor, y, ACTIVATION).to(gradient.dtype.element_ty)
        g = result.to(tl.float32)
        network_result = (g * b[None, :]).to(network_gradient.dtype.element_ty)
        tl.store(gradient + places, result, mask=inside)
        tl.store(network_gradient + places, network_result, mask=inside)
        total += g
        gate_total += g * decoded
        network_total += network_result.to(tl.float32)
    tl.store(bias_gradient + columns, tl.sum(total, 0).to(bias_gradient.dtype.element_ty), mask=exists)
    tl.store(gate_gradient + columns, tl.sum(gate_total, 0).to(gate_gradient.dtype.element_ty), mask=exists)
    tl.store(network_bias_gradient + columns, tl.sum(network_total, 0).to(bias_gradient.dtype.element_ty), mask=exists)
    tl.store(sums + program, tl.sum(tl.sum(errors, 1), 0))
    if ADVANCES:
        if program == 0:
            _advance(counter, current, rates, steps, corrections, LOG_BETA1, LOG_BETA2)


@triton.jit
def _path_code_kernel(  # type: ignore[no-untyped-def]
    path_gradient, network_gradient, encoded, gate, bias_gradient, gate_gradient, steps, items, units,
    HOLDS: tl.constexpr, CHUNKS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    exists = columns < units
    a = tl.load(gate + columns, mask=exists, other=0.0).to(tl.float32)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    gate_total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for chunk in range(CHUNKS):
        rows = chunk * ROWS + tl.arange(0, ROWS)
        inside = (rows < items)[:, None] & exists[None, :]
        places = rows[:, None] * units + columns[None, :]
        both = tl.load(path_gradient + places, mask=inside, other=0.0).to(tl.float32)
        both += tl.load(network_gradient + places, mask=inside, other=0.0).to(tl.float32)
        result = both.to(path_gradient.dtype.element_ty)
        g = result.to(tl.float32)
        tl.store(path_gradient + places, result, mask=inside)
        tl.store(network_gradient + places, (g * a[None, :]).to(network_gradient.dtype.element_ty), mask=inside)
        total += g
        gate_total += g * tl.load(encoded + places, mask=inside, other=0.0).to(tl.float32)
    bias_sum, gate_sum = tl.sum(total, 0), tl.sum(gate_total, 0)
    if HOLDS:
        first = tl.load(steps) < 1.5
        bias_sum, gate_sum = tl.where(first, 0.0, bias_sum), tl.where(first, 0.0, gate_sum)
    tl.store(bias_gradient + columns, bias_sum.to(bias_gradient.dtype.element_ty), mask=exists)
    tl.store(gate_gradient + columns, gate_sum.to(gate_gradient.dtype.element_ty), mask=exists)


@triton.jit
def _adam_kernel(  # type: ignore[no-untyped-def]
    values, rounded, gradient, first, second, corrections, sums, errors, current, count, weights, sum_count,
    l2, rest1, beta2, rest2, epsilon, ROUNDS: tl.constexpr, SUMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = places < count
    value = tl.load(values + places, mask=inside, other=0.0)
    g = tl.load(gradient + places, mask=inside, other=0.0).to(tl.float32)
    g += tl.where(places < weights, l2, 0.0) * value
    m = tl.load(first + places, mask=inside, other=0.0)
    m += rest1 * (g - m)
    v = beta2 * tl.load(second + places, mask=inside, other=0.0) + rest2 * g * g
    deviation = tl.sqrt_rn(v) / tl.load(corrections + 1) + epsilon
    value -= tl.load(corrections) * m / deviation
    tl.store(first + places, m, mask=inside)
    tl.store(second + places, v, mask=inside)
    tl.store(values + places, value, mask=inside)
    if ROUNDS:
        tl.store(rounded + places, value.to(rounded.dtype.element_ty), mask=inside)
    if tl.program_id(0) == 0:
        programs = tl.arange(0, SUMS)
        error = tl.sum(tl.load(sums + programs, mask=programs < sum_count, other=0.0), 0)
        tl.store(errors + tl.load(current), error)


def gather(
    rows: Tensor, order: Tensor, counter: Tensor, offset: Tensor | None, scale: Tensor, fill: Tensor | None, out: Tensor
) -> None:
    """Write the items of the step in ``counter`` to ``out``, scaled.

    Args:
        rows: (M, D) raw values.
        order: (steps, B) int64.
        counter: (1,) int64.
        offset: (D,) in the dtype of ``scale``, subtracted; None: ``scale`` has the dtype of ``out``.
        scale: (D,).
        fill: (D,) in the dtype of ``scale``, replaces NaN; only with ``offset``.
        out: (B, D).
    """
    (items, values), unused = out.shape, scale
    constants = (unused if offset is None else offset, scale, unused if fill is None else fill)
    flags = {"STANDARDIZES": offset is not None, "FILLS": fill is not None, "BLOCK": BLOCK}
    _gather_kernel[items, triton.cdiv(values, BLOCK)](rows, order, counter, *constants, out, items, values, **flags)


def activate(product: Tensor, bias: Tensor, out: Tensor, activation: str, keeps_input: bool) -> None:
    """Write f(product + bias), (B, N), to ``out``; with ``keeps_input`` also product + bias to ``product``."""
    count, units = product.numel(), product.shape[1]
    flags = {"ACTIVATION": activation, "KEEPS_INPUT": keeps_input, "BLOCK": BLOCK}
    _activate_kernel[triton.cdiv(count, BLOCK),](product, bias, out, count, units, **flags)


def derive(gradient: Tensor, kept: Tensor, out: Tensor, bias_gradient: Tensor, activation: str) -> None:
    """Write the gradient of the pre-activation, (B, N), to ``out``, which may be ``gradient``, and its sum, (N,)."""
    (items, units), columns = gradient.shape, NARROWEST
    flags = {"ACTIVATION": activation, **_tiles(items, columns)}
    _derive_kernel[triton.cdiv(units, columns),](gradient, kept, out, bias_gradient, items, units, **flags)


def output_programs(values: int) -> int:
    """Return the number of programs of ``output``; each writes one sum of errors."""
    return int(triton.cdiv(values, _output_columns(values)))


class Clock:
    """What ``output`` advances and ``adam`` reads: the step of the epoch on the device, its learning rate and Adam's corrections.

    Args:
        counter: (1,) int64, the step of the epoch; advanced by ``output``.
        rates: (steps,) float32, learning rate of each step.
        errors: (steps,) float32, squared error of each step; written by ``adam``.
        steps: () float32, Adam's count of steps; advanced by ``output``.
        betas: Adam's.

    Attributes:
        current: (1,) int64, the step that ``adam`` finishes.
        corrections: (2,) float32, learning rate / (1 - beta1^t) and sqrt(1 - beta2^t).
    """

    def __init__(self, counter: Tensor, rates: Tensor, errors: Tensor, steps: Tensor, betas: tuple[float, float]) -> None:
        self.counter, self.rates, self.errors, self.steps, self.betas = counter, rates, errors, steps, betas
        self.current = counter.new_zeros(1)
        self.corrections = rates.new_zeros(2)
        self.logarithms = [math.log(max(beta, 1e-300)) for beta in betas]


def output(
    product: Tensor,
    bias: Tensor,
    target: Tensor,
    gradient: Tensor,
    bias_gradient: Tensor,
    sums: Tensor,
    clock: Clock | None,
    factor: float,
    leak: float | None,
    activation: str,
    keeps_input: bool,
) -> None:
    """Write the gradient of the last pre-activation, its sum over the batch and the squared errors.

    Args:
        product: (B, D), the last product without its bias; may be ``gradient``.
        bias: (D,).
        target: (B, D).
        gradient: (B, D).
        bias_gradient: (D,).
        sums: (``output_programs(D)``,) float32, squared error of each program's columns.
        clock: advanced by one step; None for none.
        factor: of the difference.
        leak: the weight of the cross-entropy / 2; None: the activation's derivative cancels.
        activation: name of the output's activation.
        keeps_input: whether its derivative needs the pre-activation.
    """
    (items, values), columns = product.shape, _output_columns(product.shape[1])
    moving, clock_flags = _moving(clock, sums)
    flags = {"ACTIVATION": activation, "KEEPS_INPUT": keeps_input, "SKIPS_DERIVATIVE": leak is None, **clock_flags}
    flags |= _tiles(items, columns)
    buffers = (product, bias, target, gradient, bias_gradient, sums, *moving)
    _output_kernel[len(sums),](*buffers, items, values, factor, leak or 0.0, **flags)


def path_code(product: Tensor, bias: Tensor, gate: Tensor, encoded: Tensor, code: Tensor, copy: Tensor) -> None:
    """Write product + bias + gate * encoded, (B, K), to ``code``, which may be ``product``, and to ``copy``."""
    count, units = product.numel(), product.shape[1]
    _code_kernel[triton.cdiv(count, BLOCK),](product, bias, gate, encoded, code, copy, count, units, BLOCK=BLOCK)


@dataclass(frozen=True)
class PathOutput:
    """The buffers of a linear path's output: x' = f(path + path_bias + gate * (network + network_bias))."""

    network: Tensor
    """(B, D), the network's last product without its bias."""
    network_bias: Tensor
    path: Tensor
    """(B, D), the path's product without its bias."""
    path_bias: Tensor
    gate: Tensor
    target: Tensor
    gradient: Tensor
    """(B, D), written: the gradient of the pre-activation."""
    network_gradient: Tensor
    """(B, D), written: that of the network's output."""
    bias_gradient: Tensor
    """(D,), written, as the next two."""
    gate_gradient: Tensor
    network_bias_gradient: Tensor


def path_output(buffers: PathOutput, sums: Tensor, clock: Clock | None, factor: float, activation: str) -> None:
    """Do for a linear path what ``output`` does; the activation's derivative follows from its result."""
    (items, values), columns = buffers.path.shape, _output_columns(buffers.path.shape[1])
    moving, flags = _moving(clock, sums)
    flags |= {"ACTIVATION": activation, **_tiles(items, columns)}
    tensors = (getattr(buffers, field.name) for field in fields(buffers))
    _path_output_kernel[len(sums),](*tensors, sums, *moving, items, values, factor, **flags)


def path_code_gradient(
    path_gradient: Tensor,
    network_gradient: Tensor,
    encoded: Tensor,
    gate: Tensor,
    bias_gradient: Tensor,
    gate_gradient: Tensor,
    clock: Clock | None,
) -> None:
    """Write the gradients of the code, of its bias and gate, and of the network's code.

    Args:
        path_gradient: (B, K), the path's part of the gradient of the code; becomes the whole gradient.
        network_gradient: (B, K), the network's part; becomes the gradient of ``encoded``.
        encoded: (B, K), the network's code.
        gate: (K,).
        bias_gradient: (K,).
        gate_gradient: (K,).
        clock: in its first step the gradients of bias and gate become 0; None: never.
    """
    (items, units), columns = path_gradient.shape, NARROWEST
    flags = {"HOLDS": clock is not None, **_tiles(items, columns)}
    buffers = (path_gradient, network_gradient, encoded, gate, bias_gradient, gate_gradient)
    steps = gate if clock is None else clock.steps
    _path_code_kernel[triton.cdiv(units, columns),](*buffers, steps, items, units, **flags)


def adam(
    values: Tensor,
    rounded: Tensor | None,
    gradient: Tensor,
    moments: tuple[Tensor, Tensor],
    sums: Tensor,
    clock: Clock,
    weights: int,
    l2: float,
    epsilon: float,
) -> None:
    """Update the parameters, (P,), and write the squared error of the step that ``clock`` is at.

    Args:
        values: (P,) float32.
        rounded: (P,), what the products read; None: ``values``.
        gradient: (P,), in the dtype of either.
        moments: (P,) float32 each, first and second.
        sums: of ``output``.
        clock: advanced by ``output``.
        weights: number of weights, to which alone l2 applies; they are first.
        l2: the penalty's factor.
        epsilon: added to the square root of the second moment.
    """
    beta1, beta2 = clock.betas
    buffers = (values, values if rounded is None else rounded, gradient, *moments)
    of_the_step = (clock.corrections, sums, clock.errors, clock.current)
    counts = (len(values), weights, len(sums))
    flags = {"ROUNDS": rounded is not None, "SUMS": triton.next_power_of_2(len(sums)), "BLOCK": ADAM_BLOCK}
    constants = (l2, 1 - beta1, beta2, 1 - beta2, epsilon)
    _adam_kernel[triton.cdiv(len(values), ADAM_BLOCK),](*buffers, *of_the_step, *counts, *constants, **flags)


def _moving(clock: Clock | None, unused: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """Return the tensors and flags with which a kernel advances a clock."""
    if clock is None:
        return (unused,) * 5, {"ADVANCES": False, "LOG_BETA1": 0.0, "LOG_BETA2": 0.0}
    log_beta1, log_beta2 = clock.logarithms
    tensors = (clock.counter, clock.current, clock.rates, clock.steps, clock.corrections)
    return tensors, {"ADVANCES": True, "LOG_BETA1": log_beta1, "LOG_BETA2": log_beta2}


def _output_columns(values: int) -> int:
    columns = NARROWEST
    while triton.cdiv(values, columns) > MOST_SUMS:
        columns *= 2
    return columns


def _tiles(items: int, columns: int) -> dict[str, int]:
    """Return how a program walks down the batch: so many chunks of rows."""
    rows = max(1, min(int(triton.next_power_of_2(items)), TILE // columns))
    return {"CHUNKS": int(triton.cdiv(items, rows)), "ROWS": rows, "COLUMNS": columns}
