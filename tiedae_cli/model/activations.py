"""The table of activations: a function, its ONNX operators, and a hand-written in-place form with its derivative.

All functions are elementwise. To add an activation, add a row here and its name to ``Activation`` (or
``Output``) in the schema.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from tiedae_cli.config import Activation
from tiedae_cli.config.schema import Output

aten = torch.ops.aten
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017, as in torch


@dataclass(frozen=True)
class ActivationKind:
    """One activation, as used by the model, the hand-written step and the exported graph."""

    function: Callable[[Tensor], Tensor]
    """The function itself; autograd can differentiate it."""
    onnx: tuple[tuple[str, dict[str, float]], ...]
    """ONNX operators in order, with attributes; ``Mul`` multiplies by the pre-activation."""
    forward: Callable[[Tensor, Tensor], object] | None = None
    """(pre-activation, result buffer); both may be one buffer unless ``keeps_input``. None: train by autograd."""
    backward: Callable[[Tensor, Tensor, Tensor], object] | None = None
    """(gradient of the result; the result, or with ``keeps_input`` the pre-activation; buffer for the gradient of the
    pre-activation, which may be the first one). None: train by autograd."""
    keeps_input: bool = False
    """Whether the derivative needs the pre-activation, which then has a buffer of its own."""
    page: str | None = None
    """Name of the function in the report's ``scripts/network.js``. None: the page reports that it cannot compute it."""

    @cached_property
    def by_hand(self) -> bool:
        """Whether forward and backward exist and match autograd on a few values; some call private operators of torch."""
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


AnyActivation = Activation | Output

ACTIVATIONS: dict[AnyActivation, ActivationKind] = {
    "linear": ActivationKind(lambda x: x, (), lambda x, y: _copy(x, y), lambda g, y, out: _copy(g, out), page="linear"),
    "elu": ActivationKind(
        F.elu,
        (("Elu", {"alpha": 1.0}),),
        lambda x, y: _elu(x, y, 1.0, 1.0),
        lambda g, y, out: aten.elu_backward.grad_input(g, 1.0, 1.0, 1.0, True, y, grad_input=out),
        page="elu",
    ),
    "selu": ActivationKind(
        F.selu,
        (("Selu", {}),),
        lambda x, y: _elu(x, y, SELU_ALPHA, SELU_SCALE),
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
        lambda x, y: _tanh(x, y),
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
        lambda x, y: _softplus(x, y),
        lambda g, x, out: aten.softplus_backward.grad_input(g, x, 1.0, 20.0, grad_input=out),
        keeps_input=True,
        page="softplus",
    ),
    "clip": ActivationKind(  # of the output only; to [0, 1], with gradient 0 outside
        lambda x: F.hardtanh(x, 0.0, 1.0),
        (("Clip", {}),),
        lambda x, y: torch.clamp(x, 0.0, 1.0, out=y),
        lambda g, y, out: aten.hardtanh_backward.grad_input(g, y, 0.0, 1.0, grad_input=out),
        page="clip",
    ),
}


def _elu(x: Tensor, out: Tensor, alpha: float, scale: float) -> None:
    """Write scale (max(x, 0) + alpha (exp(min(x, 0)) - 1)), within 1e-7 of torch's, whose expm1 takes five times as long."""
    if x.dtype != torch.float32 or x.device.type != "cpu":
        aten.elu.out(x, alpha, scale, 1.0, out=out)
        return
    negative = torch.clamp_max(x, 0.0).exp_().sub_(1.0)
    if alpha == scale == 1.0:
        torch.maximum(x, negative, out=out)
    else:
        torch.add(torch.clamp_min(x, 0.0), negative, alpha=alpha, out=out).mul_(scale)


def _gelu(x: Tensor, out: Tensor) -> None:
    """Write GELU; torch's CPU kernel (seen in 2.14) writes to wrong places if the strides of ``out`` and ``x`` differ."""
    if x.stride() == out.stride():
        aten.gelu.out(x, out=out)
    else:
        out.copy_(F.gelu(x))


def _softplus(x: Tensor, out: Tensor) -> None:
    """Write max(x, 0) + log(1 + exp(-|x|)), within 3e-7 of torch's, whose log1p takes four times as long."""
    if x.dtype != torch.float32 or x.device.type != "cpu":
        aten.softplus.out(x, 1.0, 20.0, out=out)
        return
    positive = torch.clamp_min(x, 0.0)  # first, because x and out may be one buffer
    torch.add(x.abs().neg_().exp_().add_(1.0).log_(), positive, out=out)


def _tanh(x: Tensor, out: Tensor) -> None:
    """Write tanh x = 2 sigmoid(2 x) - 1, within 3e-7 of torch's, which takes three times as long."""
    if x.dtype == torch.float32 and x.device.type == "cpu":
        torch.mul(x, 2.0, out=out).sigmoid_().mul_(2.0).sub_(1.0)
    else:
        torch.tanh(x, out=out)


def _copy(source: Tensor, out: Tensor) -> None:
    if source.data_ptr() != out.data_ptr():
        out.copy_(source)
