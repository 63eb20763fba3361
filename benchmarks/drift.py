"""How often `score` warns of normal held-out rows, and of rows with one column shifted by 0.25, 0.5 and 1 deviation.

    python benchmarks/drift.py [--models 8] [--sets 50] [--json]

Each model is trained on 2,000 rows of a table with eight columns (normal, skewed, heavy-tailed and whole numbers, made from three common
factors); the sets are other rows of the same table, 30 to 20,000 of them. In each shifted set another column is shifted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from tiedae_cli.data.item_reader import ItemReader
from tiedae_cli.runs.trained_run import OpenRun, open_run
from tiedae_cli.scoring.drift import Drift
from tiedae_cli.scoring.drift_check import DriftCheck

SHIFTS = (0.0, 0.25, 0.5, 1.0)  # deviations
SIZES = (30, 300, 3000, 20_000)


def table(rows: int, mixing: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return rows of eight columns, (rows, 8)."""
    values: np.ndarray = random.normal(size=(rows, 3)) @ mixing + 0.3 * random.normal(size=(rows, 8))
    values[:, 2] = np.exp(values[:, 2] / 2)
    values[:, 5] += random.standard_t(3, size=rows)
    values[:, 7] = np.round(values[:, 7] * 2)
    return values


def drift_of(run: OpenRun, rows: np.ndarray) -> Drift | None:
    """Return what `score` says of rows."""
    check = DriftCheck(run)
    check.read(ItemReader(run.form, run.block_size).open_memory(rows, "rows").blocks)
    return check.found()


def main() -> None:
    """Train, score, and print how often the warning comes, and names the shifted column first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--sets", type=int, default=50, help="per model and size")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warned: Counter[tuple[float, int]] = Counter()
    named: Counter[tuple[float, int]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.models):
            random = np.random.default_rng(seed)
            mixing, path = random.normal(size=(3, 8)), Path(folder, f"{seed}.npy")
            np.save(path, table(2000, mixing, random))
            command = ["train", str(path), "epochs=20", "-q", "--run-dir", str(Path(folder, f"run-{seed}"))]
            subprocess.run([sys.executable, "-m", "tiedae_cli", *command], check=True, stdout=subprocess.DEVNULL)
            run, deviations = open_run(Path(folder, f"run-{seed}"), "cpu"), np.load(path).std(0)
            for number in range(options.sets):
                for size in SIZES:
                    rows, column = table(size, mixing, random), number % 8
                    for shift in SHIFTS:
                        moved = rows.copy()
                        moved[:, column] += shift * deviations[column]
                        found = drift_of(run, moved)
                        warned[shift, size] += found is not None
                        named[shift, size] += bool(found and found.columns and found.columns[0].column == f"feature {column}")
    sets = options.models * options.sets
    if options.json:
        rows_ = [
            {"shift": s, "rows": n, "warned": warned[s, n] / sets, "named": named[s, n] / sets} for s in SHIFTS for n in SIZES
        ]
        print(json.dumps({"sets": sets, "results": rows_}))
        return
    print(
        f"{'shift':>8}"
        + "".join(f"{size:>16,} rows" for size in SIZES)
        + f"   ({sets:,} sets each: warned, column named first)"
    )
    for shift in SHIFTS:
        cells = (f"{warned[shift, size] / sets:>11.1%} {named[shift, size] / sets:>8.1%}" for size in SIZES)
        print(f"{shift:>8g}" + "".join(f"{cell:>21}" for cell in cells))


if __name__ == "__main__":
    main()
