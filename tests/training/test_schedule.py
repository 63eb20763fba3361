"""Learning rate and order as functions of the position: closed forms, torch's own one-cycle schedule, permutations."""

import math

import pytest
import torch

from tiedae_cli.config import TrainingConfig
from tiedae_cli.system.random_streams import epoch_order, seeded
from tiedae_cli.training.schedule import learning_rate


def rates(steps: int, **options: object) -> list[float]:
    training = TrainingConfig.model_validate({"learning_rate": 0.02, **options})
    return [learning_rate(training, step, steps) for step in range(steps)]


def test_constant() -> None:
    assert rates(10) == [0.02] * 10


def test_warmup_rises_in_equal_steps_and_reaches_the_rate() -> None:
    found = rates(20, warmup=0.2)
    assert found[:5] == pytest.approx([0.004, 0.008, 0.012, 0.016, 0.02])
    assert found[4:] == [0.02] * 16


def test_cosine_falls_from_the_rate_to_almost_zero() -> None:
    found = rates(100, schedule="cosine")
    assert found == pytest.approx([0.02 * (1 + math.cos(math.pi * step / 100)) / 2 for step in range(100)])
    assert found[0] == 0.02 and found[50] == pytest.approx(0.01) and 0 < found[99] < 1e-5


def test_cosine_after_a_warmup() -> None:
    found = rates(100, schedule="cosine", warmup=0.1)
    assert found[:10] == pytest.approx([0.02 * (step + 1) / 11 for step in range(10)])
    assert found[10] == 0.02 and found[55] == pytest.approx(0.01)
    assert all(later < earlier for earlier, later in zip(found[10:], found[11:], strict=False))


def test_one_cycle() -> None:
    found = rates(101, schedule="one_cycle")
    assert found[0] == pytest.approx(0.02 / 25)
    assert found[15] == pytest.approx(0.02 * (1 + 1 / 25) / 2)  # half-way up
    assert found[30] == max(found) == 0.02
    assert found[65] == pytest.approx(0.02 * (1 + 1 / 250_000) / 2)  # half-way down
    assert found[100] == pytest.approx(0.02 / 250_000)


def test_one_cycle_is_torchs() -> None:
    """torch puts the peak at step 0.3 * steps - 1; with these numbers both reach it a step apart, and elsewhere differ by less."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=1000, cycle_momentum=False)
    reference = []
    for _ in range(1000):
        reference.append(schedule.get_last_lr()[0])
        optimizer.step()
        if len(reference) < 1000:
            schedule.step()
    assert rates(1000, schedule="one_cycle") == pytest.approx(reference, abs=0.02 * 0.006)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_very_short_trainings(schedule: str, steps: int) -> None:
    assert all(0 < rate <= 0.02 for rate in rates(steps, schedule=schedule))


def test_streams_are_functions_of_the_numbers() -> None:
    def draw(*numbers: int) -> list[float]:
        return torch.rand(4, generator=seeded(*numbers)).tolist()

    assert draw(1, 2, 3) == draw(1, 2, 3)
    others = [(1, 2, 3), (1, 2, 4), (1, 3, 2), (2, 1, 3), (0, 2, 3), (1, 2), (2, 1), (3, 0), (0, 3), (0,), (1,), (2**32 - 1, 1)]
    assert len({tuple(draw(*numbers)) for numbers in others}) == len(others)


def test_seeds_of_neighbours_share_no_stream() -> None:
    seeds = {seeded(seed, 1, epoch).initial_seed() for seed in range(100) for epoch in range(100)}
    assert len(seeds) == 10_000


def test_the_order_is_a_different_permutation_for_each_epoch_and_seed() -> None:
    orders = {(seed, epoch): epoch_order(seed, epoch, 100) for seed in (0, 1) for epoch in (0, 1)}
    for order in orders.values():
        assert order.dtype == torch.int64 and sorted(order.tolist()) == list(range(100))
    assert len({tuple(order.tolist()) for order in orders.values()}) == 4
    assert torch.equal(epoch_order(0, 1, 100), orders[0, 1])


def test_every_position_is_equally_likely() -> None:
    """The first image of 2,000 epochs: each of 10 images 200 times, give or take five standard deviations of 13."""
    counts = torch.bincount(torch.stack([epoch_order(3, epoch, 10)[0] for epoch in range(2000)]), minlength=10)
    assert (counts - 200).abs().max() < 5 * math.sqrt(2000 * 0.1 * 0.9)
