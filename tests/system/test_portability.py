"""Differences between operating systems are handled correctly, and in one module only."""

import os
import re
import sys
import time
import types
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import tiedae_cli
from tiedae_cli.cli.app import app
from tiedae_cli.data.image_files import image_names
from tiedae_cli.errors import StorageError
from tiedae_cli.system import cache, portability
from tiedae_cli.system import devices as runtime
from tiedae_cli.system.portability import quoted
from tiedae_cli.system.storage import replacing

SOURCES = sorted(Path(tiedae_cli.__path__[0]).rglob("*.py"))
ONLY_THERE = re.compile(
    r"\b(fcntl|msvcrt|shlex|sysconf|os\.O_[A-Z]+|sys\.platform|platform\.system|os\.name|os\.fsync|os\.replace|os\.rename"
    r"|SIGALRM|setitimer)\b"
)
HARMLESS = {"cli/app.py": {"os.O_WRONLY"}}


def test_the_rule_of_a_platform_stands_in_one_module() -> None:
    found = {}
    for path in SOURCES:
        name = path.relative_to(tiedae_cli.__path__[0]).as_posix()
        words = set(ONLY_THERE.findall(path.read_text(encoding="utf-8"))) - HARMLESS.get(name, set())
        if words:
            found[name] = words
    assert list(found) == ["system/portability.py"], found


def test_paths_are_sorted_as_text_with_slashes() -> None:
    """The order of ``Path`` is that of the platform: on Windows it ignores case, and so would the order of a folder's images."""
    for path in SOURCES:
        for call in re.findall(r"sorted\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)", path.read_text(encoding="utf-8")):
            assert not re.search(r"\.(r?glob|iterdir)\(", call) or "as_posix" in call, f"{path}: {call}"
    for name in ("b.png", "B.png", "a/z.png", "a-b.png"):
        path = Path("pics") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert image_names(Path("pics")).names == ["B.png", "a-b.png", "a/z.png", "b.png"]


@pytest.mark.parametrize(
    ("word", "posix", "windows"),
    [
        ("runs/digits", "runs/digits", "runs/digits"),
        ("C:\\runs\\a", "'C:\\runs\\a'", "C:\\runs\\a"),
        ("my run", "'my run'", '"my run"'),
        ("it's", "'it'\"'\"'s'", '"it\'s"'),
        ("a&b", "'a&b'", '"a&b"'),
        ("data.range=[0, 255]", "'data.range=[0, 255]'", '"data.range=[0, 255]"'),
        ('say "yes"', "'say \"yes\"'", '"say \\"yes\\""'),
        ("my runs\\", "'my runs\\'", '"my runs\\\\"'),
        ("", "''", '""'),
    ],
)
def test_quoting(word: str, posix: str, windows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert quoted(word) == posix
    monkeypatch.setattr(sys, "platform", "win32")
    assert quoted(word) == windows


def test_the_line_to_type_is_quoted_for_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    def line() -> str:
        return CliRunner().invoke(app, ["fit", "my photos"]).stderr.splitlines()[0].rpartition(": ")[2]

    assert line() == "tiedae train 'my photos'"
    monkeypatch.setattr(portability, "sys", types.SimpleNamespace(platform="win32"))
    assert line() == 'tiedae train "my photos"'


def test_macos_flushes_the_drive_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    asked: list[int] = []
    monkeypatch.setattr(portability, "sys", types.SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda _, command: asked.append(command))
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("fsync in place of F_FULLFSYNC"))
    with replacing(tmp_path / "new") as file:
        file.write(b"whole")
    assert asked == [51, 51]  # the file, then the folder

    def refuse(*_: object) -> None:
        raise OSError(45, "Operation not supported")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with replacing(tmp_path / "new") as file:
        file.write(b"newer")
    assert len(synced) == 2 and (tmp_path / "new").read_bytes() == b"newer"


def test_a_file_that_another_process_reads_is_replaced_when_it_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open files cannot be replaced, as on Windows."""
    refusals = 3
    pauses: list[float] = []
    rename = os.replace

    def busy(*names: object, **folders: object) -> None:
        if len(pauses) < refusals:
            raise PermissionError(13, "Permission denied")
        rename(*names, **folders)  # type: ignore[arg-type]

    monkeypatch.setattr(portability, "HAS_FLOCK", False)
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(os, "replace", busy)
    with replacing(tmp_path / "new") as file:
        file.write(b"whole")
    assert pauses == [0.01, 0.03, 0.1] and (tmp_path / "new").read_bytes() == b"whole"
    refusals = 1000
    with pytest.raises(StorageError, match="new: cannot be written: Permission denied"), replacing(tmp_path / "new") as file:
        file.write(b"other")
    assert [path.name for path in tmp_path.iterdir()] == ["new"] and (tmp_path / "new").read_bytes() == b"whole"


def test_the_cache_folder_of_each_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from platformdirs import macos, unix, windows

    asked: list[tuple[str, bool]] = []
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(windows, "get_win_folder", lambda _: "C:\\Users\\me\\AppData\\Local")
    for kind, end in ((unix.Unix, ".cache/tiedae"), (macos.MacOS, "Library/Caches/tiedae"), (windows.Windows, "tiedae")):

        def folder(name: str, appauthor: bool, kind: type = kind) -> Path:
            asked.append((name, appauthor))
            found: Path = kind(name, appauthor=appauthor).user_cache_path
            return found if kind is not windows.Windows else Path("/").joinpath(found)

        monkeypatch.setattr(cache, "user_cache_path", folder)
        assert end in cache.cache_folder().as_posix()
    assert asked == [("tiedae", False)] * 3
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert cache.cache_folder() == tmp_path / "elsewhere/tiedae"


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(StorageError, match="no home folder; set XDG_CACHE_HOME to a folder for caches"):
        cache.cache_folder()


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"), [(2, False, "cuda:0"), (0, True, "cpu"), (1, True, "cuda:0"), (0, False, "cpu")]
)
def test_auto_is_cuda_or_the_cpu_and_mps_only_if_asked_for(
    cuda: int, mps: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert runtime.resolve_device("auto") == torch.device(chosen)
    if mps:
        assert runtime.resolve_device("mps") == torch.device("mps")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert runtime.resolve_device("auto") == torch.device("cuda:1" if cuda == 2 else chosen)
