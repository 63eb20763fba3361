"""The list of layer kinds, and how a config's words become layers."""

import math
from collections.abc import Sequence
from typing import assert_never

from tiedae_cli.config import Activation, ModelConfig
from tiedae_cli.config.schema import ConvolutionWords, DenseWords, LayerWords
from tiedae_cli.model.activations import AnyActivation
from tiedae_cli.model.layers.convolution import Convolution
from tiedae_cli.model.layers.dense import Dense
from tiedae_cli.model.layers.layer import Layer, Shape


def build_layers(shape: Shape, config: ModelConfig) -> Sequence[Layer]:
    """Return the layers that a config describes, from the item to the code; the weights are not drawn yet.

    Args:
        shape: shape of an item: (C, H, W), or (D,) if all layers are dense.
        config: layers and activations.
    """
    layers: list[Layer] = []
    linear = config.linear_path != "none" and not config.path_beside_network
    output: AnyActivation = "linear" if config.path_beside_network else config.output  # the output activation follows the sum
    for index, words in enumerate(config.encoder):
        code = index == len(config.encoder) - 1
        activation = (config.code_activation or config.activation) if code else config.activation
        decoder_activation = config.activation if index else output
        layer = _build(words, shape, "linear" if linear else activation, decoder_activation, config.tied)
        layers.append(layer)
        shape = layer.output_shape
    return layers


def _build(words: LayerWords, shape: Shape, activation: Activation, decoder_activation: AnyActivation, tied: bool) -> Layer:
    match words:
        case DenseWords():
            return Dense(math.prod(shape), words.units, activation, decoder_activation, tied)
        case ConvolutionWords():
            channels, height, width = shape
            image = (channels, height, width)
            return Convolution(image, words.channels, words.kernel, words.stride, activation, decoder_activation, tied)
    assert_never(words)
