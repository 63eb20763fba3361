"""Measure ``tiedae tune``: the price of a curve beside its trainings alone, and what a search finds.

python benchmarks/tune.py curve [EPOCHS]            768 values, 5,000 training rows, six code sizes, three seeds, one core
python benchmarks/tune.py search [DATA] [MINUTES]   best validation error beside the sample config's
python benchmarks/tune.py tables FOLDER [SECONDS]   validation and test errors beside those of the recipe, table by table

The rows of ``curve`` are made here: 40 hidden factors through a ReLU layer, plus noise. The trainings alone are ``tiedae.train`` of the
same configs in the same process, without files and pictures. Each of them loads, splits and scales the data and fits PCA for itself.
"""

import argparse
import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import tiedae

SIZES, SEEDS = (2, 4, 8, 16, 32, 64), (1, 2, 3)
QUIET: dict[str, Any] = {"quiet": True}


def rows() -> np.ndarray:
    """Return 6,250 rows of 768 values: 5,000 for training, 625 each for validation and test."""
    chance = np.random.default_rng(0)
    hidden = np.maximum(chance.normal(size=(6250, 40)) @ chance.normal(size=(40, 300)) / 6, 0)
    values: np.ndarray = hidden @ (chance.normal(size=(300, 768)) / 17) + 0.05 * chance.normal(size=(6250, 768))
    return values.astype(np.float32)


@contextlib.contextmanager
def in_empty_folder() -> Iterator[None]:
    """Work in a folder that disappears."""
    before, folder = os.getcwd(), tempfile.mkdtemp()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        shutil.rmtree(folder)


class _Clock:
    def __init__(self) -> None:
        self.read()

    def read(self) -> tuple[float, float]:
        """Return the seconds since the last call: wall, and CPU of this process."""
        now = time.perf_counter(), time.process_time()
        before, self.last = getattr(self, "last", now), now
        return now[0] - before[0], now[1] - before[1]


def curve(epochs: int) -> None:
    """Measure the curve of a researcher beside its trainings alone."""
    settings: dict[str, Any] = {"epochs": epochs, "quiet": True}
    with in_empty_folder():
        np.save("x.npy", rows())
        tiedae.train("x.npy", epochs=1, **QUIET)  # imports
        clock = _Clock()
        tuning = tiedae.tune("x.npy", code_size=SIZES, seed=SEEDS, run_dir="tune", **settings)
        whole = clock.read()
        print(f"tune alone: {whole[0]:.1f} s wall, {whole[1]:.1f} s CPU", flush=True)
        runs = [tiedae.train("x.npy", code_size=size, seed=seed, **settings) for seed in SEEDS for size in SIZES]
        alone = clock.read()
        same = [run.results["mse_per_value"] for run in runs] == [one["validation_mse_per_value"] for one in tuning.runs]
        steps = sum(one["seconds"] for one in tuning.runs)
        print(tuning.statement)
        for name, one, other in zip(("wall", "CPU"), whole, alone, strict=True):
            print(f"{name}: tune {one:.1f} s, trainings alone {other:.1f} s, ratio {one / other:.2f}")
        print(f"steps of the tuning's epochs: {steps:.1f} s (wall)")
        print(f"validation errors {'equal' if same else 'differ from'} those of the trainings")


def search(data: str, minutes: float) -> None:
    """Measure what a search finds."""
    with in_empty_folder():
        began = time.perf_counter()
        tuning = tiedae.tune(data, minutes=minutes, run_dir="tune", **QUIET)
        seconds = time.perf_counter() - began
        start = next(one for one in tuning.runs if one["number"] == 0)["validation_mse_per_value"]
        best = tuning.results["chosen"]["validation_mse_per_value"]
        print(
            f"{data}: {len(tuning.runs)} trials in {seconds:.0f} s; validation MSE {best:.6f}, the sample config's {start:.6f}"
        )
        print(f"ratio {best / start:.3f}; test {tuning.results['test']}")


def tables(folder: Path, seconds: float) -> None:
    """Compare a search with the recipe ``vectors`` on every table of a folder."""
    lower, count = 0, 0
    for path in sorted([*folder.glob("*.csv"), *folder.glob("*.npz"), *folder.glob("*.npy")]):
        with in_empty_folder(), contextlib.suppress(tiedae.InputError):
            recipe = tiedae.train(path, **QUIET)
            tuning = tiedae.tune(path, minutes=seconds / 60, run_dir="tune", **QUIET)
            found, test = tuning.results["chosen"]["validation_mse_per_value"], tuning.results["test"]["model"]
            before = recipe.model.evaluate()["model"]["mse_per_value"]
            lower, count = lower + (test < before), count + 1
            ratio = found / recipe.results["mse_per_value"]
            print(f"{path.name:30} {len(tuning.runs):>4} trials  validation {ratio:.3f}  test {test / before:.3f}", flush=True)
    print(f"test error below the recipe's on {lower} of {count}")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("curve", "search", "tables"))
    parser.add_argument("words", nargs="*")
    chosen = parser.parse_args()
    logging.getLogger("tiedae_cli").setLevel(logging.ERROR)
    if chosen.what == "curve":
        curve(int(chosen.words[0]) if chosen.words else 100)
    elif chosen.what == "search":
        search(chosen.words[0] if chosen.words else "digits", float(chosen.words[1]) if len(chosen.words) > 1 else 5.0)
    else:
        tables(Path(chosen.words[0]), float(chosen.words[1]) if len(chosen.words) > 1 else 60.0)


if __name__ == "__main__":
    main()
