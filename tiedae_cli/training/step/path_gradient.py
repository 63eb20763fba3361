"""Hand-written forward and backward pass of the linear path, in reusable buffers.

Shapes: B items per batch (of this process), D values per item, K units of the code.
"""

from functools import partial

import torch
from torch import Tensor

from tiedae_cli.model.activations import ACTIVATIONS
from tiedae_cli.model.linear_path import LinearPath
from tiedae_cli.model.products import Call
from tiedae_cli.training.step.parameters import FlatParameters

# At the first step their gradient is only rounding (PCA's error is orthogonal to its components), and Adam would normalize it.
HELD = ("path.code_gate", "path.layer.encoder_bias")


class PathGradient:
    """The part of the linear path and its gates in one step (equations in ``LinearPath``).

    The weight C has the two buffers of every layer (see ``gradient.py``), so its gradient is one product over both uses.

    Args:
        path: the linear path whose parameters are views of ``parameters``.
        parameters: the flat parameters.
        batch_size: B.

    Attributes:
        input: (B, D), the items.
        output: (B, D), the reconstruction.
        encoded: (B, K), f(x), written by the network's encoder.
        code: (B, K).
        gradient: (B, D), the gradient of the output before its activation.
    """

    def __init__(self, path: LinearPath, parameters: FlatParameters, batch_size: int) -> None:
        self.layer, self.parameters, like = path.layer, parameters, parameters.compute
        self.below = self.layer.buffer(2 * batch_size, self.layer.input_shape, like)
        self.above = self.layer.buffer(2 * batch_size, self.layer.output_shape, like)
        self.input, self.gradient = self.below[:batch_size], self.below[batch_size:]
        self.code_gradient, self.code = self.above[:batch_size], self.above[batch_size:]
        self.encoded, self.output = torch.zeros_like(self.code), torch.zeros_like(self.input)
        self.activation = ACTIVATIONS[path.output]
        assert self.activation.forward and self.activation.backward, "no hand-written derivative: see missing_derivative"
        self.activate, self.derive = self.activation.forward, self.activation.backward
        views = (parameters.views(flat) for flat in (parameters.compute, parameters.compute_gradient))
        self.values, self.gradients = ({name.removeprefix("path."): view for name, view in part.items()} for part in views)
        (encoder, bias), (decoder, decoder_bias) = (
            [f"layer.{name}" for name in self.layer.names(part)] for part in ("encoder", "decoder")
        )
        self.weight, self.bias = self.values[encoder], self.values[bias]
        self.transposed, self.decoder_bias = self.values[decoder], self.values[decoder_bias]
        self.bias_gradient, self.decoder_bias_gradient = self.gradients[bias], self.gradients[decoder_bias]
        self.code_gate, self.output_gate = self.values["code_gate"], self.values["output_gate"]

    def encode(self) -> list[Call]:
        """Return the calls that compute ``code`` from ``input`` and ``encoded``."""
        product = self.layer.prepared("encoder", self.input, self.weight, self.bias, self.code)
        return product.then(lambda linear: [partial(torch.addcmul, linear, self.code_gate, self.encoded, out=self.code)])

    def decode(self, decoded: Tensor, target: Tensor) -> list[Call]:
        """Return the calls that compute ``output`` from ``code`` and g(code), (B, D); and output - target in ``gradient``."""
        product = self.layer.prepared("decoder", self.code, self.transposed, self.decoder_bias, self.output)
        return [
            *product.then(lambda linear: [partial(torch.addcmul, linear, self.output_gate, decoded, out=self.output)]),
            partial(self.activate, self.output, self.output),
            partial(torch.sub, self.output, target, out=self.gradient),
        ]

    def output_backward(self, decoded: Tensor, out: Tensor) -> list[Call]:
        """Return the calls that compute the gradients of bias and gate from that of the output; and that of g(code) in ``out``, (B, D)."""
        return [
            partial(self.derive, self.gradient, self.output, self.gradient),
            partial(torch.sum, self.gradient, 0, out=self.decoder_bias_gradient),
            partial(torch.mul, self.gradient, decoded, out=self.output),
            partial(torch.sum, self.output, 0, out=self.gradients["output_gate"]),
            partial(torch.mul, self.gradient, self.output_gate, out=out),
        ]

    def code_backward(self, gradient: Tensor) -> list[Call]:
        """Return the calls that add both parts of the gradient of the code, the network's given, (B, K); in ``code_gradient``."""
        own = self.layer.prepared("encoder", self.gradient, self.transposed, None, self.code_gradient)
        return own.then(lambda path: [partial(torch.add, path, gradient, out=self.code_gradient)])

    def encoder_backward(self, out: Tensor) -> list[Call]:
        """Return the calls that compute the gradients of bias and gate from that of the code; and that of f(x) in ``out``, (B, K)."""
        return [
            partial(torch.sum, self.code_gradient, 0, out=self.bias_gradient),
            partial(torch.mul, self.code_gradient, self.encoded, out=out),
            partial(torch.sum, out, 0, out=self.gradients["code_gate"]),
            partial(torch.mul, self.code_gradient, self.code_gate, out=out),
        ]
