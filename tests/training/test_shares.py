"""The global batch is the configured one with any number of processes; here they are threads that sum as processes do."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from thread_ranks import in_threads

from tiedae_cli.config import Config
from tiedae_cli.data.item_set import Splits
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import ConfigError
from tiedae_cli.system.devices import Place, Ranks
from tiedae_cli.training.trainer import Trainer

ITEMS = 203  # training items: no multiple of the batches below
STATED_DIFFERENCE = 1e-5  # of docs/machines.md
STATED_STEPS = 100


@pytest.fixture(scope="module")
def splits() -> Splits:
    whole = load_splits(Config().data)
    return replace(whole, train=whole.train.slice(0, ITEMS), validation=whole.validation.slice(0, 51))


def trained(splits: Splits, training: dict[str, object], ranks: Ranks | None = None) -> Trainer:
    words = {"hidden_sizes": [12, 5], "code_activation": "sigmoid"}
    config = Config.model_validate({"model": words, "training": {"learning_rate": 0.003, **training}})
    trainer = Trainer(config, splits, Place(torch.device("cpu"), ranks=ranks or Ranks()))
    list(trainer.train())
    return trainer


EVERYTHING = {"corruption": "gaussian", "shift": 1, "flip": True, "sparsity": "kl", "gradient_clip": 0.5}


@pytest.mark.parametrize(
    ("batch_size", "processes", "more"),
    [
        (7, 2, EVERYTHING),
        (150, 4, EVERYTHING),
        pytest.param(2, 2, {}, marks=pytest.mark.slow),
        pytest.param(5, 3, {"engine": "autograd", "sparsity": "l1"}, marks=pytest.mark.slow),
        pytest.param(1000, 2, {"optimizer": "muon"}, marks=pytest.mark.slow),
        pytest.param(203, 4, {"pretraining_epochs": 1}, marks=pytest.mark.slow),
    ],
)
def test_any_number_of_processes_gives_the_weights_of_one(
    splits: Splits, batch_size: int, processes: int, more: dict[str, object]
) -> None:
    """Uneven shares of a batch: the same items, steps, random choices and means; only the order of the sums differs."""
    steps = ITEMS // min(batch_size, ITEMS)
    training = {"batch_size": batch_size, "epochs": max(1, STATED_STEPS // steps) if steps > 1 else 20, **more}
    alone = trained(splits, training)
    together = in_threads(processes, lambda ranks: trained(splits, training, ranks))
    assert {one.step.batch_size for one in together} == {min(batch_size, ITEMS)}
    assert sum(one.step.share for one in together) == min(batch_size, ITEMS)
    allowed = STATED_DIFFERENCE * (10 if more.get("optimizer") == "muon" else 1)
    for name, weight in alone.model.state_dict().items():
        for one in together:
            assert torch.equal(one.model.state_dict()[name], together[0].model.state_dict()[name]), name
        torch.testing.assert_close(together[0].model.state_dict()[name], weight, rtol=0, atol=allowed, msg=name)
    for mine, theirs in zip(alone.history, together[-1].history, strict=True):
        assert theirs.train_mse_per_value == pytest.approx(mine.train_mse_per_value, rel=1e-4)
        assert theirs.validation_mse_per_value == pytest.approx(mine.validation_mse_per_value, rel=1e-4)


def test_shares_cover_each_batch_once_and_differ_by_one_at_most() -> None:
    for count in range(1, 9):
        for items in range(count, 40):
            shares = [Ranks(rank, count).share(items) for rank in range(count)]
            assert [shares[0][0], *(stop for _, stop in shares)] == [*(start for start, _ in shares), items]
            assert np.ptp([stop - start for start, stop in shares]) <= 1


@pytest.mark.parametrize(
    ("batch_size", "items", "line"),
    [(1, 203, "batch_size=2 or more, or torchrun --nproc-per-node 1"), (5, 1, "torchrun --nproc-per-node 1")],
)
def test_a_batch_smaller_than_the_number_of_processes_is_refused(
    splits: Splits, batch_size: int, items: int, line: str
) -> None:
    few = replace(splits, train=splits.train.slice(0, items))
    with pytest.raises(ConfigError, match=f"cannot be divided among 2 processes.*; use {line}$"):
        trained(few, {"batch_size": batch_size}, Ranks(0, 2))
