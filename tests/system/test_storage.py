"""A file is written whole or not at all: on a full disk, in a read-only folder, and if writing is interrupted."""

import contextlib
import os
import resource
import shutil
import stat
import subprocess
import threading
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.errors import Interrupted, StorageError
from tiedae_cli.output.output_targets import opened_output
from tiedae_cli.runs import checkpoint
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.system.storage import TEMPORARY_PREFIX, append_line, link_or_copy, remove_temporaries, replacing, replacing_name

CONFIG = "model: {hidden_sizes: [64, 16]}\ntraining: {epochs: 8, batch_size: 100}\n"


@contextlib.contextmanager
def largest_file(size: int):
    """Let the kernel refuse to write beyond this many bytes in any file, as a quota does (Python ignores SIGXFSZ)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this machine does not let the tests mount a small tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def temporaries(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(f"{TEMPORARY_PREFIX}*")]


def write_text(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def train(*arguments: object):
    return CliRunner().invoke(app, ["train", "-q", "--device", "cpu", *map(str, arguments)])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(folder / "last.safetensors").weights


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert temporaries(tmp_path) == []


def test_new_files_have_the_usual_mode(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Interrupted("", 15)])
def test_an_error_inside_leaves_the_old_file_and_no_temporary(error, tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises((ValueError, KeyboardInterrupt)), replacing(path) as file:
        file.write(b"half of it")
        raise error
    assert path.read_text() == "old"
    assert temporaries(tmp_path) == []


def test_a_full_disk_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with largest_file(10_000), pytest.raises(StorageError) as caught, replacing(path) as file:
        file.write(bytes(10_001))
    assert str(caught.value) == f"{path}: cannot be written: File too large"
    assert path.read_text() == "old"
    assert temporaries(tmp_path) == []


def test_links_are_followed_and_pipes_are_written_to(tmp_path):
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    target.write_text("old")
    link.symlink_to("target")
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    os.mkfifo(pipe)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    with opened_output(str(pipe)) as file:
        file.write(b"through")
    reader.join()
    assert received == ["through"]
    assert pipe.is_fifo()


@pytest.mark.parametrize("links", [True, False])
def test_link_or_copy(links, tmp_path, monkeypatch):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("content")
    target.write_text("old")
    if not links:
        monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(PermissionError("no hard links here")))
    for _ in range(2):  # also onto itself
        link_or_copy(source, target)
        assert target.read_text() == "content"
        assert source.samefile(target) is links
        assert temporaries(tmp_path) == []


def test_a_copy_on_a_full_disk(tmp_path, monkeypatch):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(20_000))
    target.write_text("old")
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(PermissionError("no hard links here")))
    with largest_file(10_000), pytest.raises(StorageError, match="target: cannot be written: File too large"):
        link_or_copy(source, target)
    assert target.read_text() == "old"
    assert temporaries(tmp_path) == []


def test_append_line_on_a_full_disk(tmp_path):
    path = tmp_path / "lines"
    append_line(path, "x" * 99)
    with largest_file(150), pytest.raises(StorageError, match="lines: cannot be written: File too large"):
        append_line(path, "y" * 99)
    assert path.read_text().splitlines()[0] == "x" * 99


def test_folders_that_sync_cannot_reach_are_no_error(tmp_path, monkeypatch):
    usual = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        usual(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    with replacing_name(tmp_path / "file") as file:
        file.write(b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_remove_temporaries(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / f"{TEMPORARY_PREFIX}1234").write_text("half")
    (run / "last.safetensors").write_text("whole")
    remove_temporaries(run)
    assert [path.name for path in run.iterdir()] == ["last.safetensors"]


@pytest.mark.slow
def test_training_on_a_full_disk_keeps_both_generations_and_resumes_later(config, tmp_path, monkeypatch):
    """The file with the history grows with each epoch until the disk refuses it."""
    monkeypatch.setattr("tiedae_cli.training.checkpointing.AT_MOST_LOST", 0.0)  # each epoch is saved
    full, free = tmp_path / "full", tmp_path / "free"
    assert train("--config", config, "--run-dir", free).exit_code == 0
    epochs = [checkpoint.load(free / name).training.epoch for name in ("previous.safetensors", "last.safetensors")]
    assert epochs == [7, 8]
    limit = (free / "previous.safetensors").stat().st_size - 150  # of epoch 7
    with largest_file(limit):
        result = train("--config", config, "--run-dir", full)
    assert result.exit_code == 1
    assert result.stderr == f"error: {full / 'last.safetensors'}: cannot be written: File too large\n"
    assert temporaries(tmp_path) == []
    done = [checkpoint.load(full / name).training.epoch for name in ("previous.safetensors", "last.safetensors")]
    assert 1 <= done[1] < 7
    assert done[0] == done[1] - 1
    assert train("--resume", full).exit_code == 0
    assert same(weights(full), weights(free))


def test_a_run_that_cannot_be_begun_leaves_nothing(config, tmp_path):
    with largest_file(10_000):
        result = train("--config", config, "--run-dir", tmp_path / "run")
    assert result.exit_code == 1
    assert result.stderr == f"error: {tmp_path / 'run' / 'last.safetensors'}: cannot be written: File too large\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_figures_on_a_full_disk_leave_the_trained_model(config, tmp_path):
    with largest_file(25_000):
        result = train("--config", config, "--run-dir", tmp_path / "run", "--set", "model.hidden_sizes=[8]")
    assert result.exit_code == 1
    assert "loss.png: cannot be written: File too large" in result.stderr
    assert temporaries(tmp_path) == []
    assert checkpoint.load(tmp_path / "run" / "best.safetensors").training.epoch >= 1


@pytest.mark.slow
def test_a_small_disk_that_fills_up(config, small_disk):
    """Both generations and the best checkpoint fit until something else fills the disk."""
    run = small_disk / "run"
    assert train("--config", config, "--run-dir", run, "--set", "training.epochs=2").exit_code == 0
    before = weights(run)
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "filler").write_bytes(bytes(free - 8192))
    result = train("--resume", run, "--set", "training.epochs=4")
    assert result.exit_code == 1
    assert "cannot be written: No space left on device" in result.stderr
    assert same(weights(run), before)
    assert checkpoint.load(run / "previous.safetensors").training.epoch == 1
    assert temporaries(small_disk) == []
    (small_disk / "filler").unlink()
    assert train("--resume", run, "--set", "training.epochs=4").exit_code == 0
    assert checkpoint.load(run / "last.safetensors").training.epoch == 4


@pytest.mark.slow
def test_a_read_only_file_system(config, small_disk):
    assert train("--config", config, "--run-dir", small_disk / "run", "--set", "training.epochs=1").exit_code == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    result = train("--config", config, "--run-dir", small_disk / "new")
    assert result.exit_code == 1
    assert result.stderr == f"error: {small_disk / 'new'}: cannot be created: Read-only file system\n"
    result = train("--resume", small_disk / "run", "--set", "training.epochs=2")
    assert result.exit_code == 1
    assert "cannot be written: Read-only file system" in result.stderr
    evaluated = CliRunner().invoke(app, ["eval", "-q", "--json", str(small_disk / "run")])
    assert evaluated.exit_code == 0  # it only reads


def test_a_file_where_a_folder_should_be(config, tmp_path):
    (tmp_path / "file").write_text("")
    for arguments in (["--run-dir", tmp_path / "file" / "run"], ["--set", f"output.runs={tmp_path / 'file'}"]):
        result = train("--config", config, *arguments)
        assert result.exit_code == 1
        assert "cannot be created: " in result.stderr
        assert result.stderr.count("\n") == 1


def test_the_folder_of_another_run_is_never_written_to(config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    result = train("--config", config, "--run-dir", tmp_path / "run")
    assert result.exit_code == 2
    assert "not empty" in result.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]
    assert not Run(tmp_path / "run").last.exists()
