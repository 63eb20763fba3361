"""A folder of Parquet files scored by Ray Data with one and two workers, beside ``tiedae score``: the same scores, row for row.

    python benchmarks/scale_out.py [--rows 400000] [--files 8] [--workers 1,2] [--json]

Each worker is a process that loads the model once and scores batches through tiedae's Python API. The machine needs as many free cores as
there are workers. Seconds are from reading the folder to having all scores, without the start of Ray. Needs the extra ``ray``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data

import tiedae_cli as tiedae

COLUMNS = 32
BATCH = 4096  # rows
ROUNDING = 1e-4  # relative: products of other batch sizes are rounded differently


class Scorer:
    """A worker: loads the model once, then scores batch after batch.

    Args:
        run: a run folder, or a checkpoint that is copied to every machine.
    """

    def __init__(self, run: str) -> None:
        self.model = tiedae.load(run, device="cpu")
        columns = self.model.form.columns
        assert columns is not None, "a model of a table knows its columns by name"
        self.names = columns.values

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return a batch with a column ``score``; the model's columns are taken by their names, in any order."""
        rows = np.stack([batch[name].to_numpy() for name in self.names], 1)
        return batch.append_column("score", pa.array(self.model.score(rows)))


def scored(folder: str, run: str, workers: int) -> "ray.data.Dataset":
    """Return the rows of a folder of Parquet files with their scores, in any order; nothing is computed yet."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = ray.data.read_parquet(folder, override_num_blocks=len(os.listdir(folder)))
    pool = ray.data.ActorPoolStrategy(size=workers)
    return rows.map_batches(
        Scorer, fn_constructor_args=[run], compute=pool, batch_size=BATCH, batch_format="pyarrow", num_cpus=1
    )


def make(folder: Path, rows: int, files: int) -> None:
    """Write a table in which columns depend on each other, and every thousandth row is an outlier."""
    random = np.random.default_rng(0)
    mix = random.normal(size=(6, COLUMNS))
    for number in range(files):
        count = rows // files
        x = random.normal(size=(count, 6)) @ mix + 0.1 * random.normal(size=(count, COLUMNS))
        x[::1000] = 3 * random.normal(size=x[::1000].shape)
        columns = {"row": np.arange(count) + number * count, **{f"sensor_{index}": x[:, index] for index in range(COLUMNS)}}
        table = pa.table(columns)
        pq.write_table(table, folder / f"part-{number:03}.parquet", row_group_size=50_000)


def by_command(run: str, files: list[Path], folder: Path) -> tuple[np.ndarray, float]:
    """Return the scores that ``tiedae score`` gives, and its seconds."""
    output = folder / "scores.jsonl"
    began = time.perf_counter()
    command = [sys.executable, "-m", "tiedae_cli", "score", run, *map(str, files), "-q", "-o", str(output)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    with output.open() as lines:
        return np.array([json.loads(line)["squared_error"] for line in lines]), seconds


def measure(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what each way took, and how far its scores are from the command's."""
    data = folder / "parts"
    data.mkdir()
    make(data, options.rows, options.files)
    files = sorted(data.iterdir())
    settings: dict[str, Any] = {"hidden_sizes": [16, 6], "epochs": 3, "dataset": str(files[0]), "ignore": ["row"]}
    run = str(tiedae.train("vectors", run_dir=folder / "run", quiet=True, **settings).best)
    expected, seconds = by_command(run, files, folder)
    results: list[dict[str, Any]] = [{"way": "tiedae score", "rows": len(expected), "seconds": seconds}]
    ray.init(num_cpus=max(options.workers) + 1, include_dashboard=False, log_to_driver=False, logging_level="warning")
    for workers in options.workers:
        began = time.perf_counter()
        parts, first = [], 0.0
        for batch in scored(str(data), run, workers).iter_batches(batch_size=None):
            first = first or time.perf_counter() - began
            parts.append((batch["row"], batch["score"]))
        seconds = time.perf_counter() - began
        rows, scores = (np.concatenate(values) for values in zip(*parts, strict=True))
        found = scores[rows.argsort()]  # Ray gives parts of a file in any order
        same = len(found) == len(expected) and bool(np.allclose(found, expected, rtol=ROUNDING, atol=0))
        gap = float(np.max(np.abs(found - expected) / expected)) if len(found) == len(expected) else None
        times = {"seconds": seconds, "seconds_to_first": first}
        results.append({"way": f"Ray, {workers} workers", "rows": len(found), **times, "same": same, "largest_gap": gap})
    ray.shutdown()
    return results


def main() -> None:
    """Run the benchmark; exit code 1 if a score differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--workers", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2])
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory() as name:
        results = measure(Path(name), options)
    if options.json:
        print(json.dumps({"results": results}))
    for result in [] if options.json else results:
        gap = f"; largest relative difference {result['largest_gap']:.1e}" if result.get("largest_gap") is not None else ""
        gap = f", the first ones after {result['seconds_to_first']:.1f} s{gap}" if "seconds_to_first" in result else gap
        print(f"{result['way']:16} {result['rows']:,} rows in {result['seconds']:.1f} s{gap}")
    sys.exit(not all(result.get("same", True) for result in results))


if __name__ == "__main__":
    main()
