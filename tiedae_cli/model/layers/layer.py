"""The base class of layers: a weight, its transpose, two biases and two activations.

Shapes: B items per batch; the encoder takes I values and returns O (the decoder the reverse). Callers pass rows, (B, I) and
(B, O); the products use the layer's own shapes, (B, *input_shape) and (B, *output_shape).
"""

import math
from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tiedae_cli.config import Activation
from tiedae_cli.model.activations import ACTIVATIONS, AnyActivation
from tiedae_cli.model.products import Call, Prepared

Shape = tuple[int, ...]


class Layer(nn.Module, ABC):
    """A linear map W and its mirror: ``encode`` is f(W x + b), (B, I) -> (B, O); ``decode`` is g(W^T h + c), (B, O) -> (B, I).

    W is one parameter that ``decode`` uses transposed, without a copy; an untied layer has a second weight of the same shape. A
    subclass defines W x, W^T h and the gradient of W. Tied means that W^T is the adjoint: <W x, h> = <x, W^T h>.

    Args:
        input_shape: shape of the encoder's input; its first number is the number of decoder biases.
        output_shape: shape of the encoder's output; its first number is the number of encoder biases.
        weight_shape: shape of W.
        activation: name of f.
        decoder_activation: name of g.
        tied: whether ``decode`` uses W; else it has a weight of its own.
    """

    def __init__(
        self,
        input_shape: Shape,
        output_shape: Shape,
        weight_shape: Shape,
        activation: Activation,
        decoder_activation: AnyActivation,
        tied: bool,
    ) -> None:
        super().__init__()
        self.input_shape, self.output_shape = input_shape, output_shape
        self.activation, self.decoder_activation = activation, decoder_activation
        self.tied = tied
        self.weight = nn.Parameter(torch.empty(weight_shape))
        if not tied:
            self.decoder_weight = nn.Parameter(torch.empty(weight_shape))  # same orientation as the encoder's
        self.encoder_bias = nn.Parameter(torch.zeros(output_shape[0]))
        self.decoder_bias = nn.Parameter(torch.zeros(input_shape[0]))

    @property
    def inputs(self) -> int:
        """I."""
        return math.prod(self.input_shape)

    @property
    def outputs(self) -> int:
        """O."""
        return math.prod(self.output_shape)

    @property
    def multiplications(self) -> int:
        """Multiplications of W x per item, as many as of W^T h."""
        return self.weight.numel() * (self.outputs // self.output_shape[0])

    @property
    def transposed(self) -> Tensor:
        """The weight that ``decode`` transposes."""
        return self.weight if self.tied else self.decoder_weight

    def encode(self, x: Tensor) -> Tensor:
        """Return f(W x + b), (B, I) -> (B, O)."""
        y = self.product(x.reshape(-1, *self.input_shape), self.weight, self.encoder_bias)
        return ACTIVATIONS[self.activation].function(y).flatten(1)

    def decode(self, h: Tensor) -> Tensor:
        """Return g(W^T h + c), (B, O) -> (B, I)."""
        x = self.transposed_product(h.reshape(-1, *self.output_shape), self.transposed, self.decoder_bias)
        return ACTIVATIONS[self.decoder_activation].function(x).flatten(1)

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw the encoder's weight (see ``TiedAutoencoder``)."""
        _draw(self.weight, self.fan_in("encoder"), generator)

    @torch.no_grad()
    def draw_decoder(self, generator: torch.Generator) -> None:
        """Draw the decoder's weight if the layer is untied."""
        if not self.tied:
            _draw(self.decoder_weight, self.fan_in("decoder"), generator)

    def names(self, part: str) -> tuple[str, str]:
        """Return the state-dict names, below the layer's own, of the weight and the bias of ``encoder`` or ``decoder``."""
        weight = "weight" if part == "encoder" or self.tied else "decoder_weight"
        return weight, f"{part}_bias"

    def features(self, item_shape: Shape) -> Tensor:
        """Return the weights of each output, on the CPU: its row of W, (O, *item_shape), or its kernel, (K, C, k, k).

        Args:
            item_shape: shape of an item; use it only for the first layer.
        """
        rows = self.weight.detach().cpu()
        return rows.view(-1, *item_shape) if rows.dim() == 2 else rows

    # What each kind of layer defines

    @abstractmethod
    def describe(self) -> str:
        """Return the layer as written in the config."""

    @abstractmethod
    def fan_in(self, part: str) -> float:
        """Return the number of values that add up to an output of ``encoder`` or ``decoder``."""

    @abstractmethod
    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return W x + b, (B, *input_shape) -> (B, *output_shape).

        Args:
            x: input.
            weight: W, possibly in another dtype than the parameter.
            bias: b; None for no bias.
        """

    @abstractmethod
    def transposed_product(self, h: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return W^T h + c, (B, *output_shape) -> (B, *input_shape); same arguments as ``product``."""

    @property
    def by_hand(self) -> bool:
        """Whether this kind defines ``weight_gradient``; if not, training uses autograd."""
        return type(self).weight_gradient is not Layer.weight_gradient

    def weight_gradient(self, below: Tensor, above: Tensor, out: Tensor) -> None:
        """Write the gradient of W, summed over pairs.

        For W x the pairs are x and the gradient of W x; for W^T h the gradient of W^T h and h. Both uses are the same function, so
        the gradient of a tied weight is one call over the pairs of both. Optional (see ``by_hand``).

        Args:
            below: (pairs, *input_shape).
            above: (pairs, *output_shape).
            out: same shape as the weight.
        """
        raise NotImplementedError

    @abstractmethod
    def operator(self, part: str) -> tuple[str, dict[str, Any]]:
        """Return the ONNX operator that applies weight and bias of ``encoder`` or ``decoder``, with its attributes."""

    # What a kind may define to make a step faster: memory layout, and products that are prepared once and called in each step

    fills_given_memory = True
    """Whether the prepared products may write to the given memory."""

    def buffer(self, items: int, shape: Shape, like: Tensor) -> Tensor:
        """Return zeros, (items, *shape), in the layout in which products are fastest; dtype and device as ``like``."""
        return like.new_zeros(items, *shape)

    def prepared(self, part: str, values: Tensor, weight: Tensor, bias: Tensor | None, memory: Tensor | None) -> Prepared:
        """Prepare ``product`` (part ``encoder``) or ``transposed_product`` (``decoder``) of the values of each later call.

        Args:
            part: which of the two.
            values: x or h.
            weight: W.
            bias: b or c; None for no bias.
            memory: for the result; a kind that allocates its results does not use it.
        """
        product = self.product if part == "encoder" else self.transposed_product
        return Prepared(partial(product, values, weight, bias), None)

    def prepared_difference(self, h: Tensor, weight: Tensor, bias: Tensor, target: Tensor, out: Tensor) -> list[Call]:
        """Return the calls that write W^T h + c - target to ``out``, (B, *input_shape)."""
        product = self.prepared("decoder", h, weight, bias, out)
        return product.then(lambda result: [partial(torch.sub, result, target, out=out)])

    def prepared_weight_gradient(self, below: Tensor, above: Tensor, out: Tensor) -> list[Call]:
        """Return the calls that do what ``weight_gradient`` does."""
        return [partial(self.weight_gradient, below, above, out)]


def _draw(weight: Tensor, fan_in: float, generator: torch.Generator) -> None:
    deviation = math.sqrt(1.3 * 2 / fan_in)
    nn.init.trunc_normal_(weight, 0.0, deviation, -2 * deviation, 2 * deviation, generator=generator)
