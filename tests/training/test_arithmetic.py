"""The precision: what a config gets on which hardware, and which warning the user reads; the threads that a step gets."""

from collections.abc import Iterator

import pytest
import torch
from conftest import Tiedae
from log_capture import captured_log

from tiedae_cli.config import Config, TrainingConfig
from tiedae_cli.data.sources.digits import load_digits
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.system.devices import Place, Ranks
from tiedae_cli.training import arithmetic
from tiedae_cli.training import trainer as training
from tiedae_cli.training.arithmetic import arithmetic_restored, choose_place, threads_for
from tiedae_cli.training.step import TrainingStep
from tiedae_cli.training.trainer import Trainer

CPU = torch.device("cpu")
EMULATED = "cpu has no bfloat16 arithmetic, and emulating it is slow; training.precision: auto uses float32 here"


@pytest.mark.parametrize(
    ("precision", "native", "dtype", "said"),
    [
        ("float32", True, torch.float32, []),
        ("float32", False, torch.float32, []),
        ("auto", True, torch.bfloat16, []),
        ("auto", False, torch.float32, []),
        ("bfloat16", True, torch.bfloat16, []),
        ("bfloat16", False, torch.bfloat16, [EMULATED]),
    ],
)
def test_precision(precision: str, native: bool, dtype: torch.dtype, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "has_bfloat16", lambda device: native)
    with captured_log() as warnings:
        place = choose_place(CPU, TrainingConfig.model_validate({"precision": precision}), Ranks())
    assert (place.dtype, place.device, warnings) == (dtype, CPU, said)


@pytest.mark.slow
def test_train_warns_of_an_emulated_precision_and_names_the_one_that_auto_takes(
    monkeypatch: pytest.MonkeyPatch, tiedae: Tiedae
) -> None:
    def notes(precision: str) -> list[str]:
        settings = ("training.epochs=1", "model.hidden_sizes=[4]", f"training.precision={precision}")
        result = tiedae("train", "--device", "cpu", *(word for one in settings for word in ("--set", one)))
        assert result.code == 0, result.err
        return result.err.splitlines()

    monkeypatch.setattr(arithmetic, "has_bfloat16", lambda device: False)
    warning, described = notes("bfloat16")[:2]
    assert warning == f"warning: {EMULATED}" and described.endswith("digits, cpu, bfloat16")
    assert notes("auto")[0].endswith("digits, cpu, float32")
    monkeypatch.setattr(arithmetic, "has_bfloat16", lambda device: True)
    assert notes("auto")[0].endswith("digits, cpu, bfloat16")


@pytest.fixture
def four_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("work", "threads"), [(0.0, 1), (2.9e6, 1), (39e6, 1), (41e6, 2), (79e6, 3), (81e6, 4), (5e9, 4)])
def test_a_step_gets_a_thread_per_20_mflop(work: float, threads: int, four_threads: None) -> None:
    with pytest.raises(KeyboardInterrupt), threads_for(work):
        assert torch.get_num_threads() == threads
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ({"hidden_sizes": [300, 150]}, 64 * 300 + 300 * 150),
        ({"hidden_sizes": [300, 8], "linear_path": "pca"}, 64 * 300 + 300 * 8 + 64 * 8),
        ({"layers": ["conv 6 4 2", "dense 9"]}, 6 * 16 * 4 * 4 + 6 * 4 * 4 * 9),  # a kernel of 4 x 4 at 4 x 4 places
    ],
)
def test_the_work_of_a_step_follows_from_its_products(model: dict[str, object], weights: int) -> None:
    config = Config.model_validate({"model": model, "training": {"batch_size": 50}})
    assert Trainer(config, load_digits(), Place(CPU)).step.work == 12 * 50 * weights


@pytest.mark.parametrize(("sizes", "threads"), [([16, 6], 1), ([600, 100], 3)])
def test_steps_of_a_training_get_their_threads_and_everything_else_gets_all(
    sizes: list[int], threads: int, four_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config.model_validate({"model": {"hidden_sizes": sizes}, "training": {"epochs": 2, "batch_size": 51}})
    trainer, seen = Trainer(config, load_digits(), Place(CPU)), set()
    run = TrainingStep.run

    def watched(step: TrainingStep, number: int) -> None:
        seen.add(torch.get_num_threads())
        run(step, number)

    monkeypatch.setattr(TrainingStep, "run", watched)
    between = {torch.get_num_threads() for report in trainer.train() if isinstance(report, EpochReport)}
    assert (seen, between) == ({threads}, {4})


def test_a_training_that_is_left_within_an_epoch_leaves_the_threads_as_they_were(four_threads: None) -> None:
    config = Config.model_validate({"model": {"hidden_sizes": [16, 6]}, "training": {"epochs": 2, "batch_size": 10}})
    trainer = Trainer(config, load_digits(), Place(CPU))
    reports = trainer.train()
    with pytest.MonkeyPatch.context() as patched, arithmetic_restored():
        patched.setattr(training, "REPORT_EVERY", 0.0)
        next(reports)  # a report between two steps; a traceback in a notebook may keep this generator alive
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4
    del reports
    assert torch.get_num_threads() == 4
