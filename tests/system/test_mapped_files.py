"""A file that is mapped or read in blocks is compared with what it was; what a container may use bounds the memory."""

import os
from pathlib import Path

import numpy as np
import pytest

from tiedae_cli.system import control_groups, memory_limits
from tiedae_cli.system.mapped_files import clock_time, mapped_file, mapped_file_of


def test_each_change_of_a_file_is_named() -> None:
    path = Path("x.bin")
    path.write_bytes(b"abcd")
    os.utime(path, ns=(0, 10**18))
    source = mapped_file(path, os.stat(path))
    assert source.change() is None
    os.utime(path, ns=(0, 10**18 + 1))
    assert source.change() == f"was written to at {clock_time(10**18 + 1)}"
    path.write_bytes(b"abc")
    assert source.change() == "had 4 bytes and has 3 now"
    other = Path("y.bin")
    other.write_bytes(b"efgh")
    other.replace(path)
    assert source.change() == "was replaced by another file"
    path.unlink()
    assert source.change() == "cannot be opened any more: No such file or directory"


def test_a_time_that_no_calendar_has_is_shown_in_seconds() -> None:
    assert clock_time(10**27) == "1000000000000000000 s after 1970"


def test_a_view_of_a_read_only_map_knows_its_file() -> None:
    np.save("x.npy", np.zeros((8, 3)))
    found = mapped_file_of(np.asarray(np.load("x.npy", mmap_mode="r"))[2:, 1:])
    assert found is not None and os.path.samefile(found.path, "x.npy")
    assert mapped_file_of(np.asarray(np.load("x.npy", mmap_mode="r+"))) is None  # the caller's own memory
    assert mapped_file_of(np.zeros(3)) is None


@pytest.mark.parametrize("version", [1, 2])
def test_the_memory_of_a_container_is_what_its_group_leaves(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, used, root, line = (
        ("memory.max", "memory.current", tmp_path, "0::/a/b")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", tmp_path / "memory", "0::/\n4:memory:/a/b")
    )
    for folder, limit in ((root, "max"), (root / "a", "1000000"), (root / "a" / "b", "max")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / most).write_text(limit + "\n")
        (folder / used).write_text("400000\n")
        (folder / "memory.stat").write_text("anon 5\ninactive_file 1234\n")
    own = tmp_path / "own"
    own.write_text(line + "\n")
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path)
    monkeypatch.setattr(control_groups, "OWN_GROUPS", own)
    assert memory_limits.available_memory() == 1_000_000 - 400_000 + 1234
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # of torchrun: two processes share the half
    assert memory_limits.fits_in_memory(150_308) and not memory_limits.fits_in_memory(150_309)


def test_a_machine_without_control_groups_has_the_memory_that_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_groups, "OWN_GROUPS", Path("absent"))
    assert memory_limits.available_memory() > 1 << 20
