"""A kind of data is one entry of one list: commands, messages and training know a new one without another change."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.data.sources import detection
from tiedae_cli.data.sources.detection import SOURCES, formats, source_of
from tiedae_cli.data.sources.part import Part, array_part
from tiedae_cli.data.sources.source import ReadOptions, Source

ROWS = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)


def toy_parts(path: Path, options: ReadOptions) -> dict[str, Part]:
    """A file of float32 numbers, five a row."""
    return {"train": array_part(np.fromfile(path, np.float32).reshape(-1, 5), str(path))}


def drawer_parts(path: Path, options: ReadOptions) -> dict[str, Part]:
    """A folder of such files, a split each."""
    return {split: toy_parts(path / f"{split}.bin", options)["train"] for split in ("train", "test")}


TOY = Source("toy", "a toy", toy_parts, (".toy",))
DRAWER = Source(
    "drawer", "a drawer", drawer_parts, recognizes=lambda path, head: (path / "drawer.json").exists(), is_folder=True
)


def use(path: Path) -> list[dict[str, object]]:
    """Train on a path and score it; return the scores."""
    config = ["model.hidden_sizes=[3]", "training.epochs=1", "training.batch_size=10"]
    trained = CliRunner().invoke(app, ["train", str(path), *config, "--run-dir", "run"])
    assert trained.exit_code == 0, trained.output
    scored = CliRunner().invoke(app, ["score", "run", str(path), "--json"])
    assert scored.exit_code == 0, scored.output
    assert CliRunner().invoke(app, ["score", str(path), "-q"]).exit_code == 2, "it can only be data, so there is no such model"
    return [json.loads(line) for line in scored.stdout.splitlines()]


def test_a_file_of_a_new_kind_trains_and_is_scored(monkeypatch: pytest.MonkeyPatch, empty_folder: Path) -> None:
    Path("x.toy").write_bytes(ROWS.tobytes())
    refused = CliRunner().invoke(app, ["train", "x.toy"])
    assert refused.exit_code == 2
    monkeypatch.setattr(detection, "SOURCES", [*SOURCES, TOY])
    assert [line["item"] for line in use(Path("x.toy"))] == list(range(40))
    missing = CliRunner().invoke(app, ["train", "data.dataset=gone.png"])
    assert missing.exit_code == 2 and "a toy (.toy)" in formats()


def test_a_folder_of_a_new_kind_goes_before_a_folder_of_images(monkeypatch: pytest.MonkeyPatch, empty_folder: Path) -> None:
    folder = Path("drawer")
    folder.mkdir()
    (folder / "drawer.json").write_text("{}")
    (folder / "train.bin").write_bytes(ROWS.tobytes())
    (folder / "test.bin").write_bytes(ROWS[:7].tobytes())
    assert "no images in this folder" in CliRunner().invoke(app, ["train", str(folder)]).stderr
    monkeypatch.setattr(detection, "SOURCES", [*SOURCES, DRAWER])
    assert [line["item"] for line in use(folder)] == [f"train[{row}]" for row in range(40)] + [
        f"test[{row}]" for row in range(7)
    ]


def test_keys_that_a_source_does_not_know_are_refused(monkeypatch: pytest.MonkeyPatch, empty_folder: Path) -> None:
    Path("x.toy").write_bytes(ROWS.tobytes())
    monkeypatch.setattr(detection, "SOURCES", [*SOURCES, TOY])
    refused = CliRunner().invoke(app, ["train", "x.toy", "data.label=y"])
    assert refused.exit_code == 2 and "data.label: x.toy: is only for a table" in refused.stderr


def test_formats_in_messages_are_those_of_the_list(empty_folder: Path) -> None:
    Path("one.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    refused = CliRunner().invoke(app, ["train", "data.dataset=one.png"])
    assert formats() in refused.stderr
    assert all(suffix in formats() for source in SOURCES for suffix in source.suffixes)
    assert formats(of_streams=True) == "an array (.npy) or a table (.csv, .tsv, .txt, .tab, .data, .dat, .jsonl, .ndjson)"


@pytest.mark.parametrize("source", [source for source in SOURCES if source.suffixes], ids=lambda source: source.name)
def test_every_suffix_names_its_kind(source: Source, empty_folder: Path) -> None:
    for suffix in source.suffixes:
        assert source_of(Path(f"x{suffix}")) is source_of(Path(f"X{suffix.upper()}")) is source
