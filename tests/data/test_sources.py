"""Messages name the kinds of data that the list of sources holds; ``tests/promises/test_recipes.py`` adds two."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Tiedae

from tiedae_cli.data.sources import detection
from tiedae_cli.data.sources.detection import SOURCES, formats, source_of
from tiedae_cli.data.sources.part import Part, array_part
from tiedae_cli.data.sources.source import ReadOptions, Source

ROWS = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)


def toy_parts(path: Path, options: ReadOptions) -> dict[str, Part]:
    """A file of float32 numbers, five a row."""
    return {"train": array_part(np.fromfile(path, np.float32).reshape(-1, 5), str(path))}


TOY = Source("toy", "a toy", toy_parts, (".toy",))


def test_keys_that_a_source_does_not_know_are_refused(
    monkeypatch: pytest.MonkeyPatch, empty_folder: Path, tiedae: Tiedae
) -> None:
    Path("x.toy").write_bytes(ROWS.tobytes())
    monkeypatch.setattr(detection, "SOURCES", [*SOURCES, TOY])
    refused = tiedae("train", "x.toy", "data.label=y")
    assert refused.code == 2 and "data.label: x.toy: is only for a table" in refused.err


def test_formats_in_messages_are_those_of_the_list(empty_folder: Path, tiedae: Tiedae) -> None:
    Path("one.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    refused = tiedae("train", "data.dataset=one.png")
    assert formats() in refused.err
    assert all(suffix in formats() for source in SOURCES for suffix in source.suffixes)
    assert formats(of_streams=True) == "an array (.npy) or a table (.csv, .tsv, .txt, .tab, .data, .dat, .jsonl, .ndjson)"


@pytest.mark.parametrize("source", [source for source in SOURCES if source.suffixes], ids=lambda source: source.name)
def test_every_suffix_names_its_kind(source: Source, empty_folder: Path) -> None:
    for suffix in source.suffixes:
        assert source_of(Path(f"x{suffix}")) is source_of(Path(f"X{suffix.upper()}")) is source
