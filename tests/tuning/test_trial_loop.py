"""What follows a trial's training ends it in time."""

import pytest

from tiedae_cli.runs.observer import Progress, StopTraining
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.tuning.trial_loop import PRUNED, Follower


def at(seconds: float, step: int, epoch: int = 1) -> Progress:
    return Progress("joint", epoch, 10, step, 100, step * 50, seconds)


def test_a_training_that_would_take_too_long_ends_within_its_first_epoch() -> None:
    follower = Follower(lambda _: False, None, longest=100)
    follower.progress(at(4.0, 1))  # 4,000 seconds at this rate, but so few of the 100 may be a busy moment
    follower.progress(at(5.5, 60))  # 92 seconds
    with pytest.raises(StopTraining, match=PRUNED):
        follower.progress(at(5.5, 54))  # 102 seconds


def test_epochs_that_were_trained_before_count() -> None:
    follower = Follower(lambda _: False, None, longest=100)
    follower.epoch(EpochReport("joint", 1, 10, 1.0, 1.0, 4.0, 1.0, 1.0, True))
    follower.progress(at(8.0, 50, epoch=2))  # 12 seconds for one and a half epochs: 80 for ten
    with pytest.raises(StopTraining, match=PRUNED):
        follower.progress(at(12.0, 50, epoch=2))


def test_a_trial_without_a_limit_is_never_too_slow() -> None:
    Follower(lambda _: False, None).progress(at(1e9, 1))
