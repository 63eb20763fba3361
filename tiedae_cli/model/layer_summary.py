"""Descriptions of a model's layers, encoder then decoder, and its number of parameters."""

from dataclasses import dataclass

from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.layers import Dense


@dataclass(frozen=True)
class LayerSummary:
    """One of the 2L layers, in the order of the computation."""

    name: str
    """``encoder 1`` ... ``encoder L``, ``decoder 1`` ... ``decoder L``; with a linear path also ``encoder path``, ``decoder path``."""
    kind: str
    """As written in the config; a decoder layer has the words of the encoder layer it mirrors."""
    inputs: int
    outputs: int
    activation: str
    transpose_of: str | None
    """Name of the layer that provides the weight, used transposed; None if this layer has its own."""
    parameters: int
    """Number of parameters of this layer; a tied weight counts only in the encoder."""


def summarize_layers(model: TiedAutoencoder) -> list[LayerSummary]:
    """Return the model's layers, encoder then decoder."""
    encoders = [
        LayerSummary(
            f"encoder {number}",
            one.describe(),
            one.inputs,
            one.outputs,
            one.activation,
            transpose_of=None,
            parameters=one.weight.numel() + one.encoder_bias.numel(),
        )
        for number, one in enumerate(model.layers, 1)
    ]
    decoders = [
        LayerSummary(
            f"decoder {len(model.layers) - level + 1}",
            one.describe(),
            one.outputs,
            one.inputs,
            one.decoder_activation,
            transpose_of=f"encoder {level}" if one.tied else None,
            parameters=one.decoder_bias.numel() + (0 if one.tied else one.transposed.numel()),
        )
        for level, one in reversed(list(enumerate(model.layers, 1)))
    ]
    if model.path is not None:
        linear, gates = model.path.layer, (model.path.code_gate.numel(), model.path.output_gate.numel())
        encoders.insert(0, _path("encoder", linear, gates[0] + linear.weight.numel(), None))
        own = 0 if linear.tied else linear.transposed.numel()
        decoders.append(_path("decoder", linear, gates[1] + own, "encoder path" if linear.tied else None, model.path.output))
    return encoders + decoders


def _path(part: str, linear: Dense, parameters: int, transpose_of: str | None, activation: str = "linear") -> LayerSummary:
    """Return the summary of one half of the linear path; its gates count as its parameters."""
    sizes = (linear.inputs, linear.outputs) if part == "encoder" else (linear.outputs, linear.inputs)
    bias = linear.get_parameter(f"{part}_bias").numel()
    return LayerSummary(f"{part} path", linear.describe(), *sizes, activation, transpose_of, parameters + bias)


def parameter_count(model: TiedAutoencoder, tied: bool) -> int:
    """Return the number of parameters of a model of this shape, tied or untied."""
    path, copies = model.path, 1 if tied else 2
    gates = 0 if path is None else path.code_gate.numel() + path.output_gate.numel()
    return gates + sum(
        layer.weight.numel() * copies + layer.encoder_bias.numel() + layer.decoder_bias.numel() for layer in model.weighted
    )
