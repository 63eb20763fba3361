import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tiedae_cli.system import control_groups, processors
from tiedae_cli.system.devices import resolve_device
from tiedae_cli.system.onnx_runtime import onnx_session
from tiedae_cli.system.processors import has_quota, limit_threads, usable_processors

SEEN = 16  # processors that the process sees


@pytest.fixture(autouse=True)
def many_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(processors, "_visible_processors", lambda: SEEN)
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(control_groups, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.delenv(processors.THREADS, raising=False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def make_groups(folder: Path, version: int, quotas: tuple[str, str]) -> None:
    """Write what Linux has for the group /a/b: the quotas of /a and /a/b in microseconds."""
    root = folder / "groups" if version == 2 else folder / "groups/cpu"
    (folder / "own").write_text("0::/a/b\n" if version == 2 else "5:memory:/\n2:cpu,cpuacct:/a/b\n0::/\n")
    for group, quota in zip((root / "a", root / "a/b"), quotas, strict=True):
        group.mkdir(parents=True, exist_ok=True)
        if version == 2:
            (group / "cpu.max").write_text(f"{quota} 100000\n")
        else:
            (group / "cpu.cfs_quota_us").write_text("-1\n" if quota == "max" else f"{quota}\n")
            (group / "cpu.cfs_period_us").write_text("100000\n")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("quotas", "usable"),
    [
        (("max", "max"), SEEN),
        (("max", "200000"), 2),
        (("300000", "max"), 3),
        (("400000", "150000"), 2),  # one and a half
        (("5000", "max"), 1),
        (("6400000", "max"), SEEN),
    ],
)
def test_the_lowest_quota_of_a_container_counts_rounded_up(
    version: int, quotas: tuple[str, str], usable: int, tmp_path: Path
) -> None:
    make_groups(tmp_path, version, quotas)
    assert usable_processors() == usable
    assert has_quota() == (usable < SEEN)


def test_a_machine_without_control_groups_or_with_damaged_ones_has_the_processors_that_it_shows(tmp_path: Path) -> None:
    assert usable_processors() == SEEN
    make_groups(tmp_path, 2, ("max", "0"))
    (tmp_path / "groups/a/cpu.max").write_text("many\n")
    assert usable_processors() == SEEN


def test_libraries_get_as_many_threads_as_the_quota_unless_somebody_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_threads()
    assert processors.THREADS not in os.environ  # nothing is changed on a machine without a quota
    make_groups(tmp_path, 2, ("200000", "max"))
    limit_threads()
    assert os.environ[processors.THREADS] == "2"
    monkeypatch.setenv(processors.THREADS, "")  # chooses nothing
    limit_threads()
    assert os.environ[processors.THREADS] == "2"
    monkeypatch.setenv(processors.THREADS, "5")
    limit_threads()
    assert os.environ[processors.THREADS] == "5"


def test_torch_gets_no_more_threads_than_the_quota_in_a_python_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(4)
    resolve_device("cpu")
    assert torch.get_num_threads() == 4
    make_groups(tmp_path, 2, ("200000", "max"))
    monkeypatch.setenv(processors.THREADS, "4")
    resolve_device("cpu")
    assert torch.get_num_threads() == 4
    monkeypatch.delenv(processors.THREADS)
    resolve_device("cpu")
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)  # the program's own choice
    resolve_device("cpu")
    assert torch.get_num_threads() == 1


def test_onnxruntime_gets_as_many_threads_as_the_quota(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
    opset = [onnx.helper.make_opsetid("", 17)]
    content = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    assert onnx_session(runtime, content).get_session_options().intra_op_num_threads == 0  # its own choice
    make_groups(tmp_path, 2, ("200000", "max"))
    assert onnx_session(runtime, content).get_session_options().intra_op_num_threads == 2
