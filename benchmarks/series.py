"""Which failures of a machine are among the strangest days of its temperature: NAB's ``machine_temperature_system_failure``.

    python benchmarks/series.py FOLDER [--seeds 3] [--json]

FOLDER holds NAB's table (Lavin & Ahmad 2015, a temperature every five minutes for 79 days) and ``machine_temperature_labels.json`` with
its four failure windows of two days each. The model sees windows of a day (288 rows) and is trained on the first 2,000 rows, the week
before the first failure window; all rows are scored as ``tiedae score`` does. A day's score is the mean over its rows. The strangest day
comes first, then the strangest one that does not overlap it, and so on. Beside it: the squared distance from the training rows' mean, and
the reconstruction error of principal components of the same windows, as many as the code has numbers.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tiedae_cli as tiedae

TABLE, LABELS = "machine_temperature_system_failure.csv", "machine_temperature_labels.json"
DAY = 288  # rows
USUAL = 2000  # rows before the first failure window
VALIDATION = 400  # of them
CODE = 16
SETTINGS: dict[str, Any] = {
    "data.window": DAY,
    "data.stride": 12,
    "data.validation": VALIDATION,
    "model.hidden_sizes": [128, CODE],
    "model.activation": "silu",
    "training.steps": 1000,
    "training.batch_size": 64,
    "training.learning_rate": 0.002,
    "training.schedule": "one_cycle",
}
SHOWN = 10


def windows_model(values: np.ndarray, times: np.ndarray, seed: int) -> np.ndarray:
    """Return each row's squared error by a model of windows, (N,)."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "x.npy"
        np.save(data, values[:USUAL, None])
        settings = {**SETTINGS, "data.dataset": str(data), "data.test": 0, "training.seed": seed}
        run = tiedae.train("vectors", run_dir=Path(folder) / "run", quiet=True, **settings)
        return np.asarray(tiedae.load(run.best).score(values[:, None]))


def distance(values: np.ndarray, times: np.ndarray, seed: int) -> np.ndarray:
    """Return each row's squared distance from the mean of the training rows."""
    return np.asarray(np.square(values - values[:USUAL].mean()))


def components(values: np.ndarray, times: np.ndarray, seed: int) -> np.ndarray:
    """Return each row's squared error by principal components of the same windows, the mean over those that hold it."""
    windows = np.lib.stride_tricks.sliding_window_view(values, DAY)  # (n, DAY)
    train = windows[: USUAL - VALIDATION - DAY + 1]
    mean = train.mean(0)
    axes = np.linalg.svd(train - mean, full_matrices=False)[2][:CODE]
    sums, counts = np.zeros(len(values)), np.zeros(len(values))
    for start in range(0, len(windows), 12):
        centered = windows[start] - mean
        sums[start : start + DAY] += (centered - centered @ axes.T @ axes) ** 2
        counts[start : start + DAY] += 1
    return sums / np.maximum(counts, 1)


DETECTORS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "windows": windows_model,
    "PCA of windows": components,
    "distance from mean": distance,
}


def strangest_days(scores: np.ndarray, count: int) -> list[int]:
    """Return the middles of the days with the highest mean scores, none overlapping another, the highest first."""
    left = np.convolve(scores, np.full(DAY, 1 / DAY), "same")
    found = []
    for _ in range(count):
        middle = int(left.argmax())
        found.append(middle)
        left[max(0, middle - DAY + 1) : middle + DAY] = -np.inf
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object a detector and seed on stdout")
    options = parser.parse_args()
    rows = [line.split(",") for line in (options.folder / TABLE).read_text().splitlines()[1:]]
    times, values = np.array([row[0] for row in rows], "datetime64[s]"), np.array([float(row[1]) for row in rows])
    failures = [
        tuple(np.array(window, "datetime64[s]")) for window in json.loads((options.folder / LABELS).read_text())["windows"]
    ]
    inside = np.array([(times >= first) & (times <= last) for first, last in failures])  # (4, N)
    for name, detector in DETECTORS.items():
        for seed in range(options.seeds if detector is windows_model else 1):
            days = strangest_days(detector(values, times, seed), len(values) // DAY)
            hits = [np.flatnonzero(inside[:, max(0, day - DAY // 2) : day + DAY // 2].any(1)).tolist() for day in days]
            ranks = [
                next((rank for rank, hit in enumerate(hits, 1) if failure in hit), None) for failure in range(len(failures))
            ]
            if options.json:
                print(json.dumps({"detector": name, "seed": seed, "ranks": ranks}))
                continue
            print(f"{name}, seed {seed}: the failures are days {', '.join(map(str, ranks))} of {len(days)}")
            if seed == 0:
                for rank, (day, hit) in enumerate(zip(days[:SHOWN], hits, strict=False), 1):
                    print(f"  {rank:2}  around {times[day]}  {'failure ' + str(hit[0] + 1) if hit else ''}")


if __name__ == "__main__":
    main()
