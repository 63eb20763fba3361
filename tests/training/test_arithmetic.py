"""The precision: what a config gets on which hardware, and which warning the user reads."""

import pytest
import torch
from conftest import Tiedae
from log_capture import captured_log

from tiedae_cli.config import TrainingConfig
from tiedae_cli.system.devices import Ranks
from tiedae_cli.training import arithmetic
from tiedae_cli.training.arithmetic import choose_place

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
