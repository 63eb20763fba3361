"""How a training that starts at PCA ends beside PCA, on many kinds of data, with and without ``model.linear_path``.

    python benchmarks/beside_pca.py [FOLDER] [--only NAME ...] [--seeds 1] [--json] [--set KEY=VALUE ...]

FOLDER holds tables of ADBench, files ``NUMBER_NAME.npz`` with ``X`` (N x D); of each at most 6,000 rows are drawn, and the code has
D / 4 numbers, or D / 2 where the name ends in ``/2``. The other data sets are made here: factors of a linear model, noise
alone, a decaying spectrum of 768 values, a curved surface, heavy tails, windows of a series, few rows. Each is split at random into 70%
for training, 15% for validation and 15% for the test; a series by time. Rows are trained by the recipe ``vectors`` with
[4 K (at least 128, at most 512), K], images by ``IMAGES``; ``--set`` changes these settings.

Printed is the error over PCA's, on the validation and the test split, without the path (``plain``) and with it. The exit code is 1 if
the promise of docs/linear-path.md is broken: with the path at most 1.0001 on every validation split, and at most 1.02 on the test split
of 95% of the data sets with at least 500 training items. For images, PCA's answers are clipped to the range of pixels.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import tiedae_cli as tiedae
from tiedae_cli.data.sources.digits import load_digits

ROWS = 6000  # of a table that are used at most
FEW = 500  # training items below which a test error above PCA's is not counted
VALIDATION, TEST = 1.0001, 1.02  # the promise
SHARE = 0.95  # of the data sets on whose test split it holds
IMAGES: dict[str, Any] = {
    "activation": "silu",
    "code_activation": "linear",
    "output": "clip",
    "epochs": 15,
    "batch_size": 50,
    "learning_rate": 0.003,
    "schedule": "one_cycle",
    "l2": 0.0,
    "loss": "squared_error",
}


@dataclass(frozen=True)
class Case:
    """One data set."""

    items: np.ndarray
    """(N, D) rows, (N, H, W) images, or (N, C) rows of a series."""
    settings: dict[str, Any] = field(default_factory=dict)
    in_order: bool = False
    """Whether the splits are ranges."""

    def splits(self, seed: int) -> list[np.ndarray]:
        """Return the items for training, validation and test."""
        count = len(self.items)
        order = np.arange(count) if self.in_order else np.random.default_rng(seed).permutation(count)
        return [self.items[part] for part in np.split(order, [int(0.7 * count), int(0.85 * count)])]


def rows(items: np.ndarray, code: int, **settings: Any) -> Case:
    """Return a case of rows with K numbers per code."""
    return Case(
        items.astype(np.float32), {"config": "vectors", "hidden_sizes": [min(512, max(128, 4 * code)), code], **settings}
    )


def factors(random: np.random.Generator, count: int, values: int, size: int, noise: float) -> np.ndarray:
    """Return rows of a linear model of some factors and noise, for which PCA is the best code."""
    return random.normal(size=(count, size)) @ random.normal(size=(size, values)) + noise * random.normal(size=(count, values))


def surface(random: np.random.Generator, count: int, values: int, size: int) -> np.ndarray:
    """Return rows on a curved surface of some dimensions, with noise."""
    bent = np.tanh(random.normal(size=(count, size)) @ random.normal(size=(size, 2 * values)) * 1.5)
    return np.asarray(bent @ random.normal(size=(2 * values, values)) / values**0.5 + 0.1 * random.normal(size=(count, values)))


def series(random: np.random.Generator, count: int) -> np.ndarray:
    """Return two channels with a daily and a weekly period, a drift and noise, (N, 2)."""
    time = np.arange(count)
    day, week = np.sin(time * 2 * np.pi / 24), np.sin(time * 2 * np.pi / 168)
    drift = np.cumsum(random.normal(size=count)) * 0.03
    both = np.stack([day * (1 + 0.5 * week) + drift, np.maximum(day, 0) ** 2 + 0.5 * week], 1)
    return both + 0.2 * random.normal(size=(count, 2))


def made(seed: int) -> dict[str, Callable[[], Case]]:
    """Return the data sets that are made here, by name."""
    random = np.random.default_rng(seed)
    spectrum = np.arange(1, 769) ** -0.7
    digits = load_digits()
    pixels = np.concatenate([digits.get(split).values[:, 0] for split in ("train", "validation", "test")])
    dense, convolutions = {"hidden_sizes": [64, 16]}, {"layers": ["conv 8 3 1", "conv 16 3 2", "dense 16"]}
    window = {"window": 48, "stride": 4, "epochs": 30}
    return {
        "factors": lambda: rows(factors(random, 3000, 100, 20, 0.5), 20),
        "factors, K below": lambda: rows(factors(random, 3000, 100, 20, 0.5), 10),
        "factors, K above": lambda: rows(factors(random, 3000, 60, 8, 0.5), 30),
        "noise": lambda: rows(random.normal(size=(2000, 30)), 15),
        "spectrum of 768": lambda: rows(random.normal(size=(2900, 768)) * spectrum @ turned(random, 768), 64, scaling="none"),
        "spectrum, K = D/2": lambda: rows(random.normal(size=(2900, 120)) * spectrum[:120] @ turned(random, 120), 60),
        "surface": lambda: rows(surface(random, 4000, 30, 4), 4),
        "surface, K = D/2": lambda: rows(surface(random, 4000, 30, 4), 15),
        "heavy tails": lambda: rows(random.standard_t(2, size=(3000, 20)) @ random.normal(size=(20, 20)), 5),
        "lognormal": lambda: rows(np.exp(1.5 * factors(random, 3000, 16, 3, 0.3)), 4),
        "few factors": lambda: rows(factors(random, 250, 20, 5, 0.5), 5),
        "few on a surface": lambda: rows(surface(random, 400, 20, 3), 3),
        "series": lambda: Case(series(random, 8000).astype(np.float32), rows(np.empty((0, 2)), 12, **window).settings, True),
        "digits, dense": lambda: Case(pixels, IMAGES | dense),
        "digits, convolutions": lambda: Case(pixels, IMAGES | convolutions),
    }


def turned(random: np.random.Generator, size: int) -> np.ndarray:
    """Return a random rotation."""
    return np.linalg.qr(random.normal(size=(size, size)))[0]


def tables(folder: Path | None, seed: int) -> dict[str, Callable[[], Case]]:
    """Return the tables of a folder by name, each with K = D / 4, and with K = D / 2 where that is more."""
    found: dict[str, Callable[[], Case]] = {}
    for path in sorted(folder.glob("*_*.npz"), key=lambda path: int(path.name.partition("_")[0])) if folder else ():
        with np.load(path) as file:
            width = file["X"].shape[1]
        for share in (4, 2) if code_size(width, 4) < code_size(width, 2) else (4,):
            name = path.stem.partition("_")[2] + ("" if share == 4 else " /2")
            found[name] = lambda path=path, share=share: table(path, share, seed)  # type: ignore[misc]
    return found


def table(path: Path, share: int, seed: int) -> Case:
    """Return some rows of a table."""
    with np.load(path) as file:
        items = file["X"].astype(np.float64)
    items = items[np.random.default_rng(seed).permutation(len(items))[:ROWS]]
    return rows(items, code_size(items.shape[1], share))


def code_size(width: int, share: int) -> int:
    """Return K."""
    return max(1, width // share)


def ratios(case: Case, path: str, seed: int, changes: dict[str, str]) -> dict[str, float]:
    """Train on a case; return the error over PCA's on both splits, the epoch that is kept and the number of training items."""
    train, validation, test = case.splits(seed)
    settings = case.settings | {"linear_path": path, "seed": seed} | changes
    run = tiedae.train(train, settings.pop("config", {}), validation=validation, test=test, quiet=True, **settings)
    found = {"epoch": float(run.results["best_epoch"]), "items": float(len(train))}
    for split, items in (("validation", validation), ("test", test)):
        errors = run.model.evaluate(items)
        baseline = min(float(errors[name]["mse_per_value"] or 0) for name in ("pca", "pca_clipped") if name in errors.values)
        found[split] = float(errors["model"]["mse_per_value"] or 0) / baseline if baseline > 1e-12 else float("nan")
    return found


def broken(results: list[dict[str, Any]]) -> bool:
    """Print the summary; return whether the promise is broken."""
    known = [result for result in results if np.isfinite(result["pca"]["validation"])]
    many = [result for result in known if result["pca"]["items"] >= FEW]
    worst = max(result["pca"]["validation"] for result in known)
    within = sum(result["pca"]["test"] <= TEST for result in many)
    for path, name in (("none", "plain"), ("pca", "with the path")):
        means = (statistics.fmean(result[path][split] for result in known) for split in ("validation", "test"))
        print(f"{name:>24}: mean over PCA's " + ", ".join(f"{mean:.3f}" for mean in means))
    print(f"with the path: worst validation {worst:.5f}; test at most {TEST} in {within} of {len(many)}")
    return bool(worst > VALIDATION) or within < SHARE * len(many)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", action="store_true", help="one JSON object a data set and seed on stdout")
    arguments = parser.parse_args()
    changes = {
        key: json.loads(value) if value[:1] in "0123456789[" else value
        for key, _, value in (one.partition("=") for one in arguments.set)
    }
    results: list[dict[str, Any]] = []
    print(f"{'error over PCA':>24}  {'items':>5}  plain: validation, test   with the path: validation, test (epoch)")
    for seed in range(arguments.seeds):
        for name, make in (made(seed) | tables(arguments.folder, seed)).items():
            case = make()  # also of what is skipped: the made data share one generator
            if arguments.only and name not in arguments.only:
                continue
            found = {path: ratios(case, path, seed, changes) for path in ("none", "pca")}
            results.append({"name": name, "seed": seed, **found})
            plain, begun = found["none"], found["pca"]
            if arguments.json:
                print(json.dumps(results[-1]), flush=True)
                continue
            print(
                f"{name:>24}  {begun['items']:5.0f}         {plain['validation']:10.4f}{plain['test']:8.4f}"
                f"                   {begun['validation']:8.4f}{begun['test']:8.4f} ({begun['epoch']:.0f})",
                flush=True,
            )
    sys.exit(broken(results))


if __name__ == "__main__":
    main()
