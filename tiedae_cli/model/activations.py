"""The one table of activations: each is a function, its form in place, its derivative, and its ONNX operators.

Shapes: any, elementwise. A new activation is a row here and a name in the schema's ``Activation``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017, as in torch


@dataclass(frozen=True)
class ActivationKind:
    """One activation, as the model, the hand-written step and the exported graph need it."""

    function: Callable[[Tensor], Tensor]
    """f, for autograd and for use."""
    forward: Callable[[Tensor, Tensor], object]
    """(pre-activation, result buffer); both may be the same buffer where ``keeps_input`` is false."""
    backward: Callable[[Tensor, Tensor, Tensor], object]
    """(gradient at the result; the result, or the pre-activation where ``keeps_input``, as torch's own kernels have it; buffer for the
    gradient at the pre-activation, which may be that of the first)."""
    onnx: tuple[tuple[str, dict[str, float]], ...]
    """Operators in their order, with attributes; a ``Mul`` multiplies by the pre-activation."""
    page: str | None = None
    """Its function in the report's ``scripts/network.js``; None: the page says that it cannot compute the activation."""
    keeps_input: bool = False
    """The derivative needs the pre-activation, which then has a buffer of its own."""


ACTIVATIONS = {
    "linear": ActivationKind(lambda x: x, lambda x, y: _copy(x, y), lambda g, y, out: _copy(g, out), (), "linear"),
    "elu": ActivationKind(
        F.elu,
        lambda x, y: aten.elu.out(x, 1.0, 1.0, 1.0, out=y),
        lambda g, y, out: aten.elu_backward.grad_input(g, 1.0, 1.0, 1.0, True, y, grad_input=out),
        (("Elu", {"alpha": 1.0}),),
        "elu",
    ),
    "selu": ActivationKind(
        F.selu,
        lambda x, y: aten.elu.out(x, SELU_ALPHA, SELU_SCALE, 1.0, out=y),
        lambda g, y, out: aten.elu_backward.grad_input(g, SELU_ALPHA, SELU_SCALE, 1.0, True, y, grad_input=out),
        (("Selu", {}),),
        "selu",
    ),
    "relu": ActivationKind(
        F.relu,
        lambda x, y: torch.clamp_min(x, 0.0, out=y),
        lambda g, y, out: aten.threshold_backward.grad_input(g, y, 0.0, grad_input=out),
        (("Relu", {}),),
        "relu",
    ),
    "sigmoid": ActivationKind(
        torch.sigmoid,
        lambda x, y: torch.sigmoid(x, out=y),
        lambda g, y, out: aten.sigmoid_backward.grad_input(g, y, grad_input=out),
        (("Sigmoid", {}),),
        "sigmoid",
    ),
    "tanh": ActivationKind(
        torch.tanh,
        lambda x, y: torch.tanh(x, out=y),
        lambda g, y, out: aten.tanh_backward.grad_input(g, y, grad_input=out),
        (("Tanh", {}),),
        "tanh",
    ),
    "silu": ActivationKind(
        F.silu,
        lambda x, y: aten.silu.out(x, out=y),
        lambda g, x, out: aten.silu_backward.grad_input(g, x, grad_input=out),
        (("Sigmoid", {}), ("Mul", {})),  # x * sigmoid(x)
        "silu",
        keeps_input=True,
    ),
    "gelu": ActivationKind(
        F.gelu,
        lambda x, y: _gelu(x, y),
        lambda g, x, out: aten.gelu_backward.grad_input(g, x, grad_input=out),
        (("Gelu", {}),),
        "gelu",
        keeps_input=True,
    ),
    "softplus": ActivationKind(  # log(1 + exp(x)), linear above 20 as in torch
        F.softplus,
        lambda x, y: aten.softplus.out(x, 1.0, 20.0, out=y),
        lambda g, x, out: aten.softplus_backward.grad_input(g, x, 1.0, 20.0, grad_input=out),
        (("Softplus", {}),),
        "softplus",
        keeps_input=True,
    ),
}


def _gelu(x: Tensor, out: Tensor) -> None:
    """Write GELU; torch's kernel for CPUs (seen in 2.14) writes to wrong places where the result lies in another order than ``x``."""
    if x.stride() == out.stride():
        aten.gelu.out(x, out=out)
    else:
        out.copy_(F.gelu(x))


def _copy(source: Tensor, out: Tensor) -> None:
    if source.data_ptr() != out.data_ptr():
        out.copy_(source)
