"""A damaged cache is never used and never an error: it is made anew."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiedae
from PIL import Image

from tiedae_cli.data.sources import table

pytestmark = pytest.mark.slow


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 32 * 32)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def remove(path: Path) -> None:
    path.unlink()


def folder_of_images() -> str:
    Path("pics").mkdir()
    for number in range(30):
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (8, 8), dtype=np.uint8)).save(f"pics/{number}.png")
    return "pics"


def table_with_labels() -> str:
    rows = (f"{i},{i * i % 7},{i % 3},{'ab'[i % 2]}" for i in range(60))
    Path("x.csv").write_text("\n".join(["p,q,r,label", *rows]))
    return "x.csv"


@pytest.mark.parametrize("damage", [flip, cut, empty, pipe, remove])
@pytest.mark.parametrize("make", [folder_of_images, table_with_labels])
def test_a_damaged_cache_is_made_anew(
    make: Callable[[], str], damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiedae: Tiedae
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(table, "LARGE", 1)
    words = ("train", make(), "-q", "--set", "training.epochs=1", "--set", "model.hidden_sizes=[4]", "--json")
    whole = tiedae(*words)
    assert whole.code == 0
    cached = sorted(path for path in (tmp_path / "cache").rglob("*") if path.is_file() and not path.name.endswith(".lock"))
    assert len(cached) >= 2
    expected = [line["train_mse_per_value"] for line in whole.lines if "train_mse_per_value" in line]
    for path in cached:
        damage(path)
        again = tiedae(*words)
        assert (again.code, again.err) == (0, "")
        assert [line["train_mse_per_value"] for line in again.lines if "train_mse_per_value" in line] == expected
