"""What a first `tiedae train` spends before, beside and after its steps, in processor seconds, beside the libraries' own calls alone.

    python benchmarks/preparation.py [--images 30000] [--megabytes 280] [--root FOLDER] [--rounds 3]

Four trainings of one epoch (the digits: all of theirs), each in a process of its own with an empty cache: the bundled digits, a folder of
JPEG images, a CSV of plain numbers, and images of the size of MNIST (MNIST itself with ``--root``). Seconds are of the processor, user
and system, of all threads, so that a shared machine changes them little; the least of the rounds is printed. Each call counts without the
calls inside it that have a line of their own; modules that are imported late count where they are.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS, SIDE, CLASSES = 30, 64, 10
Seconds = dict[str, float]


def measured(arguments: list[str]) -> Seconds:
    """Train in this process; return the processor seconds of each part."""
    from tiedae_cli.cli.app import app

    parts = _parts()  # imports torch
    found: Seconds = {"imports at the start": time.process_time()}
    inner: list[float] = []

    def timed(owner: Any, name: str, part: str) -> None:
        call: Callable[..., Any] = getattr(owner, name)

        def begin() -> float:
            inner.append(0.0)
            return time.process_time()

        def end(began: float) -> None:
            seconds = time.process_time() - began
            found[part] = found.get(part, 0.0) + seconds - inner.pop()
            if inner:
                inner[-1] += seconds

        def items(iterator: Iterator[Any]) -> Iterator[Any]:
            while True:
                began = begin()
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                finally:
                    end(began)
                yield item

        @functools.wraps(call)
        def wrapped(*positional: Any, **named: Any) -> Any:
            began = begin()
            try:
                result = call(*positional, **named)
            finally:
                end(began)
            return items(result) if isinstance(result, Iterator) else result

        setattr(owner, name, wrapped)

    for owner, name, part in parts:
        timed(owner, name, part)
    try:
        app(arguments)
    except SystemExit as end:
        if end.code:
            raise
    found["the rest: checks, checkpoints, late imports"] = time.process_time() - sum(found.values())
    return found


def _parts() -> list[tuple[Any, str, str]]:
    """Return which calls are measured: their owner, name, and the line in which they count."""
    import tiedae_cli.data.scaling as scaling
    import tiedae_cli.data.sources.folder as folder
    import tiedae_cli.data.training_sets as training_sets
    from tiedae_cli.data.sources import table_values, tables
    from tiedae_cli.data.sources.text_rows import RowText
    from tiedae_cli.model import pca
    from tiedae_cli.output.training_pictures import TrainingPictures
    from tiedae_cli.tasks import train
    from tiedae_cli.training.trainer import Trainer

    return [
        (train, "_suitable_data", "reading: the rest"),
        (folder, "list_images", "reading: names and times of the files"),
        (folder, "_write", "reading: decoding, and writing the cache"),
        (folder, "seal", "reading: digest of the cache"),
        (RowText, "pieces", "reading: bytes, and where rows begin"),
        (tables, "_parsed", "reading: cells and numbers (pyarrow)"),
        (table_values._Encoder, "_cast", "reading: cells and numbers (pyarrow)"),
        (table_values._Encoder, "encode", "reading: rows of numbers"),
        (training_sets, "_write_cache", "reading: checks, and writing the cache"),
        (training_sets, "seal", "reading: digest of the cache"),
        (training_sets, "checksum", "reading: checksum"),
        (scaling, "_moments", "reading: mean and deviation of each column"),
        (pca, "fit", "PCA"),
        (TrainingPictures, "finished", "pictures, with the import of matplotlib"),
        (Trainer, "train", "training: steps and validation"),
    ]


def images(folder: Path, count: int) -> Path:
    """Write a folder of JPEG images in color."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(count):
        path = folder / "images" / f"class {index % CLASSES}" / f"{index:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        levels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(levels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=90)
    return folder / "images"


def csv(folder: Path, megabytes: int) -> Path:
    """Write a CSV of numbers with five decimals."""
    import pyarrow
    import pyarrow.csv

    rng, count = np.random.default_rng(0), megabytes * 1_000_000 // (COLUMNS * 8 + 12)
    mixing = rng.standard_normal((5, COLUMNS))
    x = (rng.standard_normal((count, 5)) @ mixing + 0.1 * rng.standard_normal((count, COLUMNS))).round(5)
    pyarrow.csv.write_csv(pyarrow.table({f"x{index}": x[:, index] for index in range(COLUMNS)}), folder / "rows.csv")
    return folder / "rows.csv"


def as_large_as_mnist(folder: Path) -> Path:
    """Write 60,000 images of 28 x 28 random pixels."""
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (60_000, 28, 28), dtype=np.uint8))
    return folder / "images.npy"


def import_torch(path: Path) -> None:
    """Import torch."""
    import torch  # noqa: F401


def decode_alone(path: Path) -> None:
    """Decode each file with Pillow into an array."""
    from PIL import Image

    for file in sorted(path.glob("*/*.jpg")):
        with Image.open(file) as image:
            np.asarray(image)


def parse_alone(path: Path) -> None:
    """Read a CSV with pyarrow, its columns as float64."""
    import pyarrow
    import pyarrow.csv

    types = {f"x{index}": pyarrow.float64() for index in range(COLUMNS)}
    options = pyarrow.csv.ConvertOptions(column_types=types)
    pyarrow.csv.read_csv(path, pyarrow.csv.ReadOptions(use_threads=False), convert_options=options)


def product_alone(path: Path) -> None:
    """Multiply and decompose what PCA of 55,000 images of 784 pixels does, in float64."""
    block = np.random.default_rng(0).random((5_500, 784))
    total = np.zeros((784, 784))
    for _ in range(10):
        total += block.T @ block
    np.linalg.eigh(total)


ALONE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "digits": ("import torch alone", import_torch),
    "folder": ("Pillow's decoding alone", decode_alone),
    "csv": ("pyarrow's reading alone", parse_alone),
    "images": ("the products and the decomposition of PCA alone", product_alone),
}


def in_a_process(*arguments: str, folder: Path) -> Seconds:
    """Return what another process measures, which begins with an empty cache."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        command = [sys.executable, str(Path(__file__).resolve()), *arguments]
        environment = {**os.environ, "XDG_CACHE_HOME": own}
        done = subprocess.run(command, check=True, cwd=own, env=environment, stdout=subprocess.PIPE)
    found: Seconds = json.loads(done.stdout.splitlines()[-1])
    return found


def report(name: str, path: Path | str, rounds: int, folder: Path, *settings: str) -> None:
    """Measure a training and the library's call alone, and print both."""
    label, _ = ALONE[name]
    trainings = [in_a_process("--train", str(path), *settings, folder=folder) for _ in range(rounds)]
    alone = min(in_a_process("--alone", name, str(path), folder=folder)["seconds"] for _ in range(rounds))
    best = min(trainings, key=lambda found: sum(found.values()))
    total = sum(best.values())
    print(f"\ntiedae train {path if name == 'digits' else name} {' '.join(settings)}")
    for part, seconds in best.items():
        print(f"  {part:<50} {seconds:6.2f} s  {100 * seconds / total:4.0f}%")
    print(f"  {'all':<50} {total:6.2f} s\n  {label:<50} {alone:6.2f} s", flush=True)


def main() -> None:
    """Parse, measure, print; or do one measurement for the process that started this one."""
    if sys.argv[1:2] == ["--train"]:
        print(json.dumps(measured(["train", *sys.argv[2:], "-q", "--device", "cpu"])))
        return
    if sys.argv[1:2] == ["--alone"]:
        began = time.process_time() if sys.argv[2] != "digits" else 0.0
        ALONE[sys.argv[2]][1](Path(sys.argv[3]))
        print(json.dumps({"seconds": time.process_time() - began}))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=30_000)
    parser.add_argument("--megabytes", type=int, default=280)
    parser.add_argument("--root", type=Path, help="folder that holds MNIST/raw")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tiedae-preparation-") as name:
        folder = Path(name)
        report("digits", "digits", options.rounds, folder)
        report("folder", images(folder, options.images), options.rounds, folder, "epochs=1", "hidden_sizes=[64]")
        report("csv", csv(folder, options.megabytes), options.rounds, folder, "epochs=1")
        root = () if options.root is None else (f"root={options.root.resolve()}",)
        mnist = "mnist" if options.root else as_large_as_mnist(folder)
        report("images", mnist, options.rounds, folder, "epochs=1", *root)


if __name__ == "__main__":
    main()
