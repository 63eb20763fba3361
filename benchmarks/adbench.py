"""How well the recipe ``anomalies`` finds outliers, beside the field's detectors, on the tables of ADBench (Han et al. 2022).

    python benchmarks/adbench.py FOLDER [--seeds 5] [--rows 6000] [--only DETECTOR ...] [--output FILE.json]

FOLDER holds files ``NUMBER_NAME.npz`` with ``X`` (N x D) and ``y`` (1 = outlier). Of each table at most ``--rows`` rows are drawn.
A random half of the usual rows is for training, the rest and all outliers are scored. Every detector sees the same values,
standardized by the training rows, and no label. One line of JSON a table, seed and detector; the means at the end.
Needs the extra ``bench``.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors

import tiedae_cli as tiedae

Scorer = Callable[[np.ndarray], np.ndarray]
Fit = Callable[[np.ndarray, int], Scorer]


def recipe(train: np.ndarray, seed: int, linear_path: Literal["none", "pca"] = "none") -> Scorer:
    """Train the recipe as it is shipped, or with a linear path; a tenth of the training rows is its validation split."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "x.npy"
        np.save(data, train.astype(np.float32))
        run = tiedae.train(
            "anomalies", run_dir=Path(folder) / "run", quiet=True, dataset=str(data), test=0, seed=seed, linear_path=linear_path
        )
        model = tiedae.load(run.best)
    return lambda x: model.score(x.astype(np.float32))


def neighbours(train: np.ndarray, seed: int) -> Scorer:
    """Score by the distance to the fifth nearest training row."""
    found = NearestNeighbors(n_neighbors=5).fit(train)
    return lambda x: found.kneighbors(x)[0][:, -1]


def forest(train: np.ndarray, seed: int) -> Scorer:
    """Grow an isolation forest, scikit-learn's defaults."""
    found = IsolationForest(random_state=seed).fit(train)
    return lambda x: -found.score_samples(x)


def components(train: np.ndarray, seed: int) -> Scorer:
    """Score by the squared distance from the mean, each principal component in units of its deviation (Shyu et al. 2003)."""
    found = PCA().fit(train)
    scale = np.sqrt(np.maximum(found.explained_variance_, 1e-9))
    return lambda x: ((found.transform(x) / scale) ** 2).sum(1)


def tails(train: np.ndarray, seed: int) -> Scorer:
    """Score by ECOD (Li et al. 2022), PyOD's."""
    from pyod.models.ecod import ECOD

    found = ECOD()
    found.fit(train)
    return lambda x: found.decision_function(x)


DETECTORS: dict[str, Fit] = {"anomalies": recipe, "kNN": neighbours, "IForest": forest, "PCA": components, "ECOD": tails}
VARIANTS: dict[str, Fit] = {"with a linear path": partial(recipe, linear_path="pca")}  # measured only if asked for


def table(path: Path, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return training rows, rows to score and whether these are outliers."""
    with np.load(path) as file:
        x, y = file["X"].astype(np.float64), file["y"] > 0
    random = np.random.default_rng(seed)
    kept = random.permutation(len(x))[:rows]
    x, y = x[kept], y[kept]
    usual = random.permutation(np.flatnonzero(~y))
    train, rest = usual[: len(usual) // 2], np.concatenate([usual[len(usual) // 2 :], np.flatnonzero(y)])
    mean, deviation = x[train].mean(0), x[train].std(0)
    x = (x - mean) / np.where(deviation > 1e-12 * np.maximum(1, np.abs(mean)), deviation, 1)
    return x[train], x[rest], y[rest]


def measure(train: np.ndarray, x: np.ndarray, y: np.ndarray, fit: Fit, seed: int) -> dict[str, float]:
    """Return how well a detector does, and its seconds."""
    start = time.perf_counter()
    scorer = fit(train, seed)
    trained = time.perf_counter()
    scores = scorer(x)
    scored = time.perf_counter()
    return {
        "auroc": 100 * roc_auc_score(y, scores),
        "average_precision": 100 * average_precision_score(y, scores),
        "train_seconds": trained - start,
        "score_seconds": scored - trained,
    }


def summary(results: list[dict[str, object]]) -> None:
    """Print the means over the tables, with the standard error over the seeds."""
    for name in dict.fromkeys(str(result["detector"]) for result in results):
        own = [result for result in results if result["detector"] == name]
        seeds = sorted({int(str(result["seed"])) for result in own})
        line = name
        for key in ("auroc", "average_precision", "train_seconds", "score_seconds"):
            by_seed = [np.mean([float(str(r[key])) for r in own if r["seed"] == seed]) for seed in seeds]
            error = np.std(by_seed, ddof=1) / len(seeds) ** 0.5 if len(seeds) > 1 else float("nan")
            line += f"  {key} {np.mean(by_seed):.2f} +- {error:.2f}"
        print(line)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", nargs="+", choices=[*DETECTORS, *VARIANTS], default=[*DETECTORS], metavar="DETECTOR")
    arguments = parser.parse_args()
    results: list[dict[str, object]] = []
    for seed in range(arguments.seeds):
        for path in sorted(arguments.folder.glob("*_*.npz")):
            train, x, y = table(path, arguments.rows, seed)
            for name in arguments.only:
                found = measure(train, x, y, {**DETECTORS, **VARIANTS}[name], seed)
                results.append({"table": path.stem, "seed": seed, "detector": name, **found})
                print(json.dumps(results[-1]), flush=True)
                if arguments.output:
                    arguments.output.write_text(json.dumps(results))
        summary(results)


if __name__ == "__main__":
    main()
