"""What all layers have in common: a weight, its transpose, two biases and two activations.

Shapes: B items a batch; I values in and O values out on the encoder's way (the decoder's way is the other one round). A layer has these
values as rows, (B, I) and (B, O), for its users, and in shapes of its own, (B, *input_shape) and (B, *output_shape), for its products.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from tiedae_cli.config import Activation
from tiedae_cli.model.activations import ACTIVATIONS

Shape = tuple[int, ...]


class Layer(nn.Module, ABC):
    """A linear map W and its mirror: ``encode`` is f(W x + b), (B, I) -> (B, O); ``decode`` is g(W^T h + c), (B, O) -> (B, I).

    W is one parameter, and the tie is in ``decode``, not in a copy; an untied layer has a second weight of the same shape. A kind of
    layer says what W x, W^T h and the gradient of W are; that W^T is the adjoint, <W x, h> = <x, W^T h>, is what tied means.

    Args:
        input_shape: of an item on its way in; the first number is that of the decoder's biases.
        output_shape: of an item on its way out; the first number is that of the encoder's biases.
        weight_shape: of W.
        activation: f, by name.
        decoder_activation: g, by name.
        tied: whether ``decode`` uses W.
    """

    def __init__(
        self,
        input_shape: Shape,
        output_shape: Shape,
        weight_shape: Shape,
        activation: Activation,
        decoder_activation: Activation,
        tied: bool,
    ) -> None:
        super().__init__()
        self.input_shape, self.output_shape = input_shape, output_shape
        self.activation, self.decoder_activation = activation, decoder_activation
        self.tied = tied
        self.weight = nn.Parameter(torch.empty(weight_shape))
        if not tied:
            self.decoder_weight = nn.Parameter(torch.empty(weight_shape))  # oriented as the encoder's
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
    def transposed(self) -> Tensor:
        """The weight whose transpose decodes."""
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
        """Draw the encoder's weight, as ``TiedAutoencoder`` says."""
        _draw(self.weight, self.fan_in("encoder"), generator)

    @torch.no_grad()
    def draw_decoder(self, generator: torch.Generator) -> None:
        """Draw the decoder's weight where it is another."""
        if not self.tied:
            _draw(self.decoder_weight, self.fan_in("decoder"), generator)

    def names(self, part: str) -> tuple[str, str]:
        """Return the state-dict names, below the layer's own, of the weight and the bias of ``encoder`` or ``decoder``."""
        weight = "weight" if part == "encoder" or self.tied else "decoder_weight"
        return weight, f"{part}_bias"

    def features(self, item_shape: Shape) -> Tensor:
        """Return what each output looks at in an item, on the CPU: its row of W, (O, *item_shape), or its kernel, (K, C, k, k).

        Args:
            item_shape: of the items, where this is the first layer.
        """
        rows = self.weight.detach().cpu()
        return rows.view(-1, *item_shape) if rows.dim() == 2 else rows

    # What a kind of layer says of itself

    @abstractmethod
    def describe(self) -> str:
        """Return the layer as the config words it."""

    @abstractmethod
    def fan_in(self, part: str) -> float:
        """Return how many values an output of ``encoder`` or ``decoder`` is a sum of."""

    @abstractmethod
    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """Return W x + b, (B, *input_shape) -> (B, *output_shape).

        Args:
            x: the input.
            weight: W, perhaps in another type than the parameter.
            bias: b; None for none.
            out: where the result may be written instead of into new memory.
        """

    @abstractmethod
    def transposed_product(self, h: Tensor, weight: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """Return W^T h + c, (B, *output_shape) -> (B, *input_shape); the arguments are those of ``product``."""

    @property
    def by_hand(self) -> bool:
        """Whether this kind has a ``weight_gradient``; without one, training takes the gradient by autograd."""
        return type(self).weight_gradient is not Layer.weight_gradient

    def weight_gradient(self, below: Tensor, above: Tensor, out: Tensor) -> None:
        """Write the gradient of W: of W x for pairs of x and the gradient at W x, of W^T h for pairs of the gradient at W^T h and h.

        Both are the same function, so that the sum over both uses of a tied weight is one call over the pairs of both. A kind may
        lack it (see ``by_hand``).

        Args:
            below: (pairs, *input_shape).
            above: (pairs, *output_shape).
            out: of the weight's shape.
        """
        raise NotImplementedError

    @abstractmethod
    def operator(self, part: str) -> tuple[str, dict[str, Any]]:
        """Return the ONNX operator that applies weight and bias of ``encoder`` or ``decoder``, with its attributes."""

    # How the products like their memory

    fills_given_memory = True
    """Whether the products write into ``out``."""

    def buffer(self, items: int, shape: Shape, like: Tensor) -> Tensor:
        """Return zeros, (items, *shape), laid out as the products are fastest; type and device are those of ``like``."""
        return like.new_zeros(items, *shape)

    def transposed_difference(self, h: Tensor, weight: Tensor, bias: Tensor, target: Tensor, out: Tensor) -> Tensor:
        """Write W^T h + c - target into ``out`` and return it, all but h of shape (B, *input_shape)."""
        return torch.sub(self.transposed_product(h, weight, bias), target, out=out)


def _draw(weight: Tensor, fan_in: float, generator: torch.Generator) -> None:
    deviation = math.sqrt(1.3 * 2 / fan_in)
    nn.init.trunc_normal_(weight, 0.0, deviation, -2 * deviation, 2 * deviation, generator=generator)
