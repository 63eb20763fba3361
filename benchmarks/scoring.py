"""How long ``tiedae score`` takes for a million rows of 64 numbers beside principal components in scikit-learn and numpy.

    python benchmarks/scoring.py [--rows 1000000] [--repeats 5] [--json]

Whole processes are timed, imports and writing included, each kind in turn and the least time of each is taken, for other processes of the
machine only add to it. The yardstick loads the ``.npy``, standardizes, goes to 16 components and back by scikit-learn's PCA, sums the
squared errors in numpy and saves them as ``.npy``. ``tiedae score`` reads the same file, or the same bytes from a pipe, goes through a
tied model of 64-16-64, and writes an object a row with the threshold and the verdict; or, with ``--summary``, one object. Both use the
threads that OMP_NUM_THREADS allows. Peak memory is that of the process; the file has 256 bytes a row. Needs the extra ``bench``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COLUMNS, CODE = 64, 16
YARDSTICK = """
import numpy as np
from sklearn.decomposition import PCA
train = np.load("train.npy")
mean, deviation = train.mean(0), train.std(0)
pca = PCA({code}).fit((train - mean) / deviation)
x = (np.load("x.npy") - mean) / deviation
np.save("errors.npy", ((pca.inverse_transform(pca.transform(x)) - x) ** 2).sum(1))
"""
TRAINING = ["--config", "vectors", "--set", "data.dataset=train.npy", "--set", f"model.hidden_sizes=[{CODE}]", "--epochs", "3"]
TIEDAE = [sys.executable, "-m", "tiedae_cli"]
KINDS: dict[str, tuple[list[str], bool]] = {
    "sklearn and numpy": ([sys.executable, "yardstick.py"], False),
    "score, .npy to JSON Lines": ([*TIEDAE, "score", "run", "x.npy", "-q", "-o", "scores.jsonl"], False),
    "score, .npy to CSV": ([*TIEDAE, "score", "run", "x.npy", "-q", "-o", "scores.csv"], False),
    "score, pipe to JSON Lines": ([*TIEDAE, "score", "run", "-", "-q", "-o", "piped.jsonl"], True),
    "score, .npy, --summary": ([*TIEDAE, "score", "run", "x.npy", "-q", "--summary"], False),
    "score, pipe, --summary": ([*TIEDAE, "score", "run", "-", "-q", "--summary"], True),
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        make(options.rows)
        subprocess.run([*TIEDAE, "train", "-q", "--run-dir", "run", *TRAINING], check=True, stdout=subprocess.DEVNULL)
        found: dict[str, list[tuple[float, float, int]]] = {kind: [] for kind in KINDS}
        for _ in range(options.repeats):
            for kind, (command, piped) in KINDS.items():
                found[kind].append(measured(command, piped))
        os.chdir("/")
    results = {
        kind: {
            "seconds": min(seconds for seconds, _, _ in runs),
            "cpu_seconds": min(cpu for _, cpu, _ in runs),
            "peak_mb": max(peak for _, _, peak in runs) / 1e6,
        }
        for kind, runs in found.items()
    }
    if options.json:
        print(json.dumps({"rows": options.rows, "results": results}))
        return
    base = results["sklearn and numpy"]["seconds"]
    for kind, values in results.items():
        ratio = values["seconds"] / base
        print(
            f"{kind:28} {values['seconds']:6.2f} s ({ratio:.2f})  CPU {values['cpu_seconds']:6.2f} s  {values['peak_mb']:6,.0f} MB"
        )


def make(rows: int) -> None:
    """Write the data and the yardstick into the working folder."""
    random = np.random.default_rng(0)
    mix = random.normal(size=(CODE, COLUMNS)).astype(np.float32)
    x = np.lib.format.open_memmap("x.npy", "w+", np.float32, (rows, COLUMNS))
    for start in range(0, rows, 100_000):
        count = min(100_000, rows - start)
        noise = 0.3 * random.normal(size=(count, COLUMNS))
        x[start : start + count] = random.normal(size=(count, CODE)) @ mix + noise
    np.save("train.npy", x[:20_000])
    Path("yardstick.py").write_text(YARDSTICK.format(code=CODE))


def measured(command: list[str], piped: bool) -> tuple[float, float, int]:
    """Run a process; return its seconds, its processor seconds and its peak memory in bytes."""
    began = time.perf_counter()
    source = subprocess.Popen(["cat", "x.npy"], stdout=subprocess.PIPE) if piped else None
    process = subprocess.Popen(command, stdin=None if source is None else source.stdout, stdout=subprocess.DEVNULL)
    if source is not None and source.stdout is not None:
        source.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if source is not None:
        source.wait()
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
