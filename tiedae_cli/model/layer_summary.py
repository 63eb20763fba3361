"""The layers of a model in words and numbers, encoder then decoder, and how many parameters it has."""

from dataclasses import dataclass

from tiedae_cli.model.autoencoder import TiedAutoencoder


@dataclass(frozen=True)
class LayerSummary:
    """One of the 2L layers, in the order of the computation."""

    name: str
    """``encoder 1`` ... ``encoder L``, ``decoder 1`` ... ``decoder L``."""
    kind: str
    """As the config words it; a decoder's is that of the encoder's layer that it mirrors."""
    inputs: int
    outputs: int
    activation: str
    transpose_of: str | None
    """The layer whose weight this one uses transposed; None where the weight is its own."""
    parameters: int
    """Of this layer alone: a weight counts where it is first used."""


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
    return encoders + decoders


def parameter_count(model: TiedAutoencoder, tied: bool) -> int:
    """Return the parameters that a model of this shape has, tied or not."""
    return sum(
        layer.weight.numel() * (1 if tied else 2) + layer.encoder_bias.numel() + layer.decoder_bias.numel()
        for layer in model.layers
    )
