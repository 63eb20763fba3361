"""The hardware: which devices multiply bfloat16 matrices."""

import pytest
import torch

from tiedae_cli.system import devices as runtime

CPU = torch.device("cpu")


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
