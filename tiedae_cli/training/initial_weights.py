"""The weights that a training starts from: those of a trained model, or PCA for the linear path."""

import os
from pathlib import Path

import torch
from torch import Tensor

from tiedae_cli.config import Config
from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.errors import InputError
from tiedae_cli.model import pca
from tiedae_cli.model.autoencoder import TiedAutoencoder, build_autoencoder, untied_weights
from tiedae_cli.model.linear_path import set_to_pca
from tiedae_cli.runs import checkpoint as checkpoints
from tiedae_cli.runs.run_folder import find_checkpoint
from tiedae_cli.system.devices import Ranks


def initial_weights(config: Config, form: ItemForm) -> dict[str, Tensor]:
    """Return the weights of ``training.init_from``; if only they are tied, the decoder starts as their transpose.

    Raises:
        InputError: No such model, or its shape differs.
        CheckpointError: The checkpoint is damaged.
    """
    source = find_checkpoint(os.path.expanduser(str(config.training.init_from)), Path(os.path.expanduser(config.output.runs)))
    found = checkpoints.load(source)
    with torch.device("meta"):
        theirs, ours = build_autoencoder(found.form.shape, found.config.model), build_autoencoder(form.shape, config.model)
    if _build(theirs) != _build(ours):
        raise InputError(f"training.init_from: {source} is a model {_build(theirs)}, not {_build(ours)}")
    if config.model.tied and not found.config.model.tied:
        raise InputError(f"training.init_from: {source} is untied; a tied model cannot start from two different weights")
    unties = found.config.model.tied and not config.model.tied
    return untied_weights(found.weights) if unties else dict(found.weights)


def _build(model: TiedAutoencoder) -> str:
    """Return a description that must match between two models to exchange weights."""
    path = "" if model.path is None else " with a linear path"
    return f"{model.shapes} ({', '.join(layer.describe() for layer in model.layers)}){path}"


def start_at_pca(model: TiedAutoencoder, items: ItemSet, ranks: Ranks) -> pca.PrincipalComponents:
    """Set the linear layer of a model to PCA of the training items, fitted by the leading process, and return it."""
    layer = model.linear_layer
    assert layer is not None, "the schema allows model.linear_path only for such models"
    outputs = layer.outputs
    fitted = ranks.led(lambda: pca.fit(items, outputs))
    set_to_pca(layer, fitted)
    return fitted
