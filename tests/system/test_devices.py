"""The precision that a config gets on each kind of hardware, and the warnings about it."""

import pytest
import torch
from hearing import heard
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.config import TrainingConfig
from tiedae_cli.system import devices as runtime
from tiedae_cli.system.devices import Ranks, choose_place

CPU = torch.device("cpu")
EMULATED = "cpu has no bfloat16 arithmetic and emulating it is slow; training.precision: auto uses float32 here"


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
    monkeypatch.setattr(runtime, "has_bfloat16", lambda device: native)
    with heard() as warnings:
        place = choose_place(CPU, TrainingConfig.model_validate({"precision": precision}), Ranks())
    assert (place.dtype, place.device, warnings) == (dtype, CPU, said)


@pytest.mark.parametrize(("name", "native"), [("avx512_bf16", True), ("amx_bf16", True), ("avx512_f", False)])
def test_a_cpu_has_bfloat16_if_it_has_the_instructions(name: str, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {name: True, "architecture": "x86_64"}, raising=False)
    assert runtime.has_bfloat16(CPU) is native


@pytest.mark.parametrize(
    ("name", "native"), [("_is_avx512_bf16_supported", True), ("_is_amx_tile_supported", True), ("", False)]
)
def test_an_older_torch_reports_the_cpus_instructions_by_other_functions(
    name: str, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    for one in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, one, lambda one=one: one == name, raising=False)
    assert runtime.has_bfloat16(CPU) is native
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert not runtime.has_bfloat16(CPU)


@pytest.mark.parametrize(("capability", "native"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_has_bfloat16_since_ampere(capability: tuple[int, int], native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert runtime.has_bfloat16(torch.device("cuda:0")) is native


def test_train_warns_of_an_emulated_precision_and_names_the_one_that_auto_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    def notes(precision: str) -> list[str]:
        settings = ("training.epochs=1", "model.hidden_sizes=[4]", f"training.precision={precision}")
        result = CliRunner().invoke(app, ["train", "--device", "cpu", *(word for one in settings for word in ("--set", one))])
        assert result.exit_code == 0, result.output
        return result.stderr.splitlines()

    monkeypatch.setattr(runtime, "has_bfloat16", lambda device: False)
    warning, described = notes("bfloat16")[:2]
    assert warning == f"warning: {EMULATED}" and described.endswith("digits, cpu, bfloat16")
    assert notes("auto")[0].endswith("digits, cpu, float32")
    monkeypatch.setattr(runtime, "has_bfloat16", lambda device: True)
    assert notes("auto")[0].endswith("digits, cpu, bfloat16")
