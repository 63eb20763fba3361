"""The layers of a model in words and numbers."""

import pytest

from tiedae_cli.config import ModelConfig
from tiedae_cli.model.autoencoder import build_autoencoder
from tiedae_cli.model.layer_summary import LayerSummary, parameter_count, summarize_layers


def test_layers_of_a_tied_model() -> None:
    config = ModelConfig(hidden_sizes=(5, 3), activation="elu", code_activation="linear", output="sigmoid")
    assert summarize_layers(build_autoencoder(64, config)) == [
        LayerSummary("encoder 1", "dense 5", 64, 5, "elu", None, 64 * 5 + 5),
        LayerSummary("encoder 2", "dense 3", 5, 3, "linear", None, 5 * 3 + 3),
        LayerSummary("decoder 1", "dense 3", 3, 5, "elu", "encoder 2", 5),
        LayerSummary("decoder 2", "dense 5", 5, 64, "sigmoid", "encoder 1", 64),
    ]


def test_layers_of_an_untied_model_have_their_own_weights() -> None:
    layers = summarize_layers(build_autoencoder(64, ModelConfig(hidden_sizes=(5, 3), tied=False)))
    assert [layer.transpose_of for layer in layers] == [None] * 4
    assert [layer.parameters for layer in layers] == [325, 18, 20, 384]


@pytest.mark.parametrize("tied", [True, False])
def test_parameter_counts_match_torchs(tied: bool) -> None:
    model = build_autoencoder(20, ModelConfig(hidden_sizes=(9, 6, 2), tied=tied))
    counted = sum(parameter.numel() for parameter in model.parameters())
    other = build_autoencoder(20, ModelConfig(hidden_sizes=(9, 6, 2), tied=not tied))
    assert (
        parameter_count(other, tied)
        == parameter_count(model, tied)
        == counted
        == sum(layer.parameters for layer in summarize_layers(model))
    )
