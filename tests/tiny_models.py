"""Small checkpoints that no training made, for tests of the commands that use one."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.config import Config, DataConfig, ModelConfig
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.model.autoencoder import TiedAutoencoder, build_autoencoder
from tiedae_cli.model.pca import PrincipalComponents
from tiedae_cli.runs.calibration import calibrate
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.finished_parts import FinishedParts, Results
from tiedae_cli.runs.reference import QUANTILES, Reference
from tiedae_cli.runs.training_state import TrainingState

DIGITS = ItemForm((1, 8, 8), scale=1 / 255)
COLOR = ItemForm((3, 5, 4), scale=1 / 255)
VECTORS = ItemForm((1, 1, 6), "vectors", offset=np.arange(6.0), scale=np.array([1.0, 2.0, 0.5, 1.0, 4.0, 0.25]))


def save_run(
    parent: Path, name: str, form: ItemForm, code: int = 4, dataset: str = "digits", output: str = "sigmoid"
) -> TiedAutoencoder:
    """Write ``parent/name/best.safetensors`` and return its model."""
    config = Config(
        data=DataConfig(dataset=dataset),
        model=ModelConfig(hidden_sizes=(12, code), activation="elu", output=output),  # type: ignore[arg-type]
    )
    model = build_autoencoder(form.shape, config.model, torch.Generator().manual_seed(7))
    folder = parent / name
    folder.mkdir(parents=True)
    Checkpoint(config, form, model.state_dict(), TrainingState(), name).save(folder / "best.safetensors")
    return model.eval()


def parts_of(form: ItemForm, code: int, score: Mapping[str, Tensor] | None = None) -> FinishedParts:
    """Return what the end of a training would add to a model of a form, made of plain numbers.

    Args:
        form: of an item that is no window.
        code: numbers of the code.
        score: tensors of the ranker.
    """
    width = form.values_per_item
    zeros, ones = torch.zeros(width, dtype=torch.float64), torch.ones(width, dtype=torch.float64)
    steps = torch.linspace(0, 1, QUANTILES if form.kind == "vectors" else 0)
    return FinishedParts(
        PrincipalComponents(torch.zeros(width), torch.eye(width)[:, :code].contiguous()),
        calibrate(torch.arange(200, dtype=torch.float64)),
        None,
        score or {},
        Reference(100, zeros, ones, zeros.float(), ones.float(), steps[:, None].repeat(1, width)),
        Results("finished", 1, 1, 1, 0.5, 0.25, 0.25 if form.kind == "images" else None, 1.0, 1.0),
    )


def random_bytes(*shape: int, seed: int = 0) -> Tensor:
    """Return uint8 pixels."""
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
