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
    """(pre-activation, result buffer); both are the same buffer where ``keeps_input`` is false."""
    backward: Callable[[Tensor, Tensor], object]
    """(gradient, in place; the result, or the pre-activation where ``keeps_input``), as torch's own kernels have it."""
    onnx: tuple[tuple[str, dict[str, float]], ...]
    """Operators in their order, with attributes; a ``Mul`` multiplies by the pre-activation."""
    keeps_input: bool = False
    """The derivative needs the pre-activation, which then has a buffer of its own."""


ACTIVATIONS = {
    "linear": ActivationKind(lambda x: x, lambda x, y: None, lambda g, y: None, ()),
    "elu": ActivationKind(
        F.elu,
        lambda x, y: F.elu_(y),
        lambda g, y: aten.elu_backward.grad_input(g, 1.0, 1.0, 1.0, True, y, grad_input=g),
        (("Elu", {"alpha": 1.0}),),
    ),
    "selu": ActivationKind(
        F.selu,
        lambda x, y: torch.selu_(y),
        lambda g, y: aten.elu_backward.grad_input(g, SELU_ALPHA, SELU_SCALE, 1.0, True, y, grad_input=g),
        (("Selu", {}),),
    ),
    "relu": ActivationKind(
        F.relu,
        lambda x, y: y.relu_(),
        lambda g, y: aten.threshold_backward.grad_input(g, y, 0.0, grad_input=g),
        (("Relu", {}),),
    ),
    "sigmoid": ActivationKind(
        torch.sigmoid,
        lambda x, y: y.sigmoid_(),
        lambda g, y: aten.sigmoid_backward.grad_input(g, y, grad_input=g),
        (("Sigmoid", {}),),
    ),
    "tanh": ActivationKind(
        torch.tanh,
        lambda x, y: y.tanh_(),
        lambda g, y: aten.tanh_backward.grad_input(g, y, grad_input=g),
        (("Tanh", {}),),
    ),
    "silu": ActivationKind(
        F.silu,
        lambda x, y: aten.silu.out(x, out=y),
        lambda g, x: aten.silu_backward.grad_input(g, x, grad_input=g),
        (("Sigmoid", {}), ("Mul", {})),  # x * sigmoid(x)
        keeps_input=True,
    ),
    "gelu": ActivationKind(
        F.gelu,
        lambda x, y: aten.gelu.out(x, out=y),
        lambda g, x: aten.gelu_backward.grad_input(g, x, grad_input=g),
        (("Gelu", {}),),
        keeps_input=True,
    ),
    "softplus": ActivationKind(  # log(1 + exp(x)), linear above 20 as in torch
        F.softplus,
        lambda x, y: aten.softplus.out(x, 1.0, 20.0, out=y),
        lambda g, x: aten.softplus_backward.grad_input(g, x, 1.0, 20.0, grad_input=g),
        (("Softplus", {}),),
        keeps_input=True,
    ),
}
