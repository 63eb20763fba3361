"""The kinds of layers, one file per kind: a weight that encodes, its transpose that decodes, two biases, two activations."""

from tiedae_cli.model.layers.convolution import Convolution
from tiedae_cli.model.layers.dense import Dense
from tiedae_cli.model.layers.kinds import build_layers
from tiedae_cli.model.layers.layer import Layer

__all__ = ["Convolution", "Dense", "Layer", "build_layers"]
