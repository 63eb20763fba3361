"""Every way to rank that a config may name is there, and gives the same scores when it is read back from a file."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from tiny_models import DIGITS, parts_of

from tiedae_cli.config import Config, ScoreConfig
from tiedae_cli.config.schema import Rank
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import CheckpointError
from tiedae_cli.model.autoencoder import build_autoencoder
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.trained_run import open_run
from tiedae_cli.runs.training_state import TrainingState
from tiedae_cli.scoring.rankers import RANKERS, SquaredError, fit_ranker, open_ranker
from tiedae_cli.scoring.scorer import Scorer

CPU = torch.device("cpu")


def halved(x: torch.Tensor) -> torch.Tensor:
    return x / 2


def test_a_squared_error_that_no_float32_holds() -> None:
    x = torch.tensor([[1e25, 3.0], [0.0, 1.0]])
    expected = [float(np.float32(1e25)) ** 2, 1.0]
    assert SquaredError(ItemForm((1, 1, 2), "vectors")).scores(x, torch.zeros_like(x)).tolist() == expected


def test_the_list_holds_what_a_config_may_name() -> None:
    assert set(RANKERS) == set(get_args(Rank))


@pytest.mark.parametrize("rank", RANKERS)
def test_what_a_checkpoint_keeps_gives_the_same_scores(rank: Rank) -> None:
    config, train = Config(score=ScoreConfig(rank=rank)), load_splits(Config().data).train
    fitted = fit_ranker(halved, train, config, CPU)
    opened = open_ranker(fitted.tensors(), train.form, config)
    x = torch.rand(7, 64, generator=torch.Generator().manual_seed(0))
    scores = fitted.scores(x, halved(x))
    assert scores.shape == (7,) and scores.dtype == torch.float64
    assert torch.equal(opened.scores(x, halved(x)), scores)
    assert fitted.tensors().keys() == RANKERS[rank].kept
    assert fitted.scores(x[:0], x[:0]).shape == (0,)


@pytest.mark.parametrize("tensors", [{"mean": torch.zeros(64)}, {"mean": torch.zeros(3), "more": torch.zeros(3)}])
def test_a_checkpoint_with_other_statistics_is_refused_when_it_is_opened_to_score(
    tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    config = Config(score=ScoreConfig(rank="neighbours"))
    weights = build_autoencoder(DIGITS.shape, config.model, torch.Generator().manual_seed(0)).state_dict()
    path = tmp_path / "best.safetensors"
    Checkpoint(config, DIGITS, weights, TrainingState(), "run", parts_of(DIGITS, 3, tensors)).save(path)
    with pytest.raises(CheckpointError, match=f"^{path}: damaged: its score has other statistics$"):
        Scorer(open_run(path, "cpu"))
