"""The one table of activations: each is a function and its ONNX operators, and, by hand, its form in place and its derivative.

Shapes: any, elementwise. A new activation is a row here and a name in the schema's ``Activation``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from tiedae_cli.config import Activation

aten = torch.ops.aten
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017, as in torch


@dataclass(frozen=True)
class ActivationKind:
    """One activation, as the model, the hand-written step and the exported graph need it."""

    function: Callable[[Tensor], Tensor]
    """f, for autograd and for use."""
    onnx: tuple[tuple[str, dict[str, float]], ...]
    """Operators in their order, with attributes; a ``Mul`` multiplies by the pre-activation."""
    forward: Callable[[Tensor, Tensor], object] | None = None
    """(pre-activation, result buffer); both may be the same buffer where ``keeps_input`` is false. None: train by autograd."""
    backward: Callable[[Tensor, Tensor, Tensor], object] | None = None
    """(gradient at the result; the result, or the pre-activation where ``keeps_input``, as torch's own kernels have it; buffer for the
    gradient at the pre-activation, which may be that of the first). None: train by autograd."""
    keeps_input: bool = False
    """The derivative needs the pre-activation, which then has a buffer of its own."""
    page: str | None = None
    """Its function in the report's ``scripts/network.js``; None: the page says that it cannot compute the activation."""

    @cached_property
    def by_hand(self) -> bool:
        """Whether forward and backward exist and agree with autograd on a few values: some call torch's private operators."""
        if self.forward is None or self.backward is None:
            return False
        x = torch.tensor([-2.0, -0.5, 0.25, 3.0])
        result, gradient = torch.empty_like(x), torch.empty_like(x)
        try:
            self.forward(x, result)
            self.backward(torch.ones_like(x), x if self.keeps_input else result, gradient)
        except (AttributeError, RuntimeError, TypeError):
            return False
        with torch.enable_grad():
            leaf = x.clone().requires_grad_()
            expected = self.function(leaf)
            (slope,) = torch.autograd.grad(expected.sum(), leaf)
        return torch.allclose(result, expected, atol=1e-5) and torch.allclose(gradient, slope, atol=1e-5)


ACTIVATIONS: dict[Activation, ActivationKind] = {
    "linear": ActivationKind(lambda x: x, (), lambda x, y: _copy(x, y), lambda g, y, out: _copy(g, out), page="linear"),
    "elu": ActivationKind(
        F.elu,
        (("Elu", {"alpha": 1.0}),),
        lambda x, y: aten.elu.out(x, 1.0, 1.0, 1.0, out=y),
        lambda g, y, out: aten.elu_backward.grad_input(g, 1.0, 1.0, 1.0, True, y, grad_input=out),
        page="elu",
    ),
    "selu": ActivationKind(
        F.selu,
        (("Selu", {}),),
        lambda x, y: aten.elu.out(x, SELU_ALPHA, SELU_SCALE, 1.0, out=y),
        lambda g, y, out: aten.elu_backward.grad_input(g, SELU_ALPHA, SELU_SCALE, 1.0, True, y, grad_input=out),
        page="selu",
    ),
    "relu": ActivationKind(
        F.relu,
        (("Relu", {}),),
        lambda x, y: torch.clamp_min(x, 0.0, out=y),
        lambda g, y, out: aten.threshold_backward.grad_input(g, y, 0.0, grad_input=out),
        page="relu",
    ),
    "sigmoid": ActivationKind(
        torch.sigmoid,
        (("Sigmoid", {}),),
        lambda x, y: torch.sigmoid(x, out=y),
        lambda g, y, out: aten.sigmoid_backward.grad_input(g, y, grad_input=out),
        page="sigmoid",
    ),
    "tanh": ActivationKind(
        torch.tanh,
        (("Tanh", {}),),
        lambda x, y: torch.tanh(x, out=y),
        lambda g, y, out: aten.tanh_backward.grad_input(g, y, grad_input=out),
        page="tanh",
    ),
    "silu": ActivationKind(
        F.silu,
        (("Sigmoid", {}), ("Mul", {})),  # x * sigmoid(x)
        lambda x, y: aten.silu.out(x, out=y),
        lambda g, x, out: aten.silu_backward.grad_input(g, x, grad_input=out),
        keeps_input=True,
        page="silu",
    ),
    "gelu": ActivationKind(
        F.gelu,
        (("Gelu", {}),),
        lambda x, y: _gelu(x, y),
        lambda g, x, out: aten.gelu_backward.grad_input(g, x, grad_input=out),
        keeps_input=True,
        page="gelu",
    ),
    "softplus": ActivationKind(  # log(1 + exp(x)), linear above 20 as in torch
        F.softplus,
        (("Softplus", {}),),
        lambda x, y: aten.softplus.out(x, 1.0, 20.0, out=y),
        lambda g, x, out: aten.softplus_backward.grad_input(g, x, 1.0, 20.0, grad_input=out),
        keeps_input=True,
        page="softplus",
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
