"""The same 10,000 rows in every form: bit-identical training tensors, seconds and memory per form; and a large and a wide CSV.

    python benchmarks/forms.py [--rows 10000] [--large GB] [--json]
    python benchmarks/forms.py --wide [--json]

Each form is loaded in a process of its own; ``seconds`` is the loading alone, ``megabytes`` the process's peak less that of a process that
only imports. ``--large`` writes a CSV of so many GB, trains on it twice (the second start maps the cache) and scores it from a pipe.
``--wide`` measures only a CSV of 3,000 rows and 20,000 columns (355 MB): training twice, scoring, and scoring with reasons.
"""

import argparse
import gzip
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

COLUMNS = 20
WIDE = 3_000, 20_000  # rows, columns
Write = Callable[[Path, np.ndarray], Path]


def text(delimiter: str, decimal: str = ".", suffix: str = ".csv", heading: bool = True) -> Write:
    """Return a writer of a table in text."""

    def write(folder: Path, x: np.ndarray) -> Path:
        path = folder / f"x{suffix}"
        lines = [delimiter.join(f"c{index}" for index in range(x.shape[1]))] if heading else []
        lines += [delimiter.join(repr(value).replace(".", decimal) for value in row) for row in x.tolist()]
        content = ("\n".join(lines) + "\n").encode()
        path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
        return path

    return write


def npy(folder: Path, x: np.ndarray) -> Path:
    """Write an array."""
    np.save(folder / "x.npy", x)
    return folder / "x.npy"


def fortran(folder: Path, x: np.ndarray) -> Path:
    """Write an array in Fortran order."""
    return npy(folder, np.asfortranarray(x))


def npz(folder: Path, x: np.ndarray) -> Path:
    """Write an archive."""
    np.savez(folder / "x.npz", X=x)
    return folder / "x.npz"


def json_lines(folder: Path, x: np.ndarray) -> Path:
    """Write JSON Lines of columns."""
    names = [f"c{index}" for index in range(x.shape[1])]
    (folder / "x.jsonl").write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in x.tolist()))
    return folder / "x.jsonl"


def parquet(folder: Path, x: np.ndarray) -> Path:
    """Write Parquet."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({f"c{index}": x[:, index].copy() for index in range(x.shape[1])})
    pyarrow.parquet.write_table(table, folder / "x.parquet")
    return folder / "x.parquet"


def feather(folder: Path, x: np.ndarray) -> Path:
    """Write Feather."""
    import pyarrow
    import pyarrow.feather

    table = pyarrow.table({f"c{index}": x[:, index].copy() for index in range(x.shape[1])})
    pyarrow.feather.write_feather(table, folder / "x.feather")
    return folder / "x.feather"


def hdf5(folder: Path, x: np.ndarray) -> Path:
    """Write HDF5."""
    import h5py

    with h5py.File(folder / "x.h5", "w") as file:
        file["data"] = x
    return folder / "x.h5"


def matlab(folder: Path, x: np.ndarray) -> Path:
    """Write a MATLAB file."""
    import scipy.io

    scipy.io.savemat(folder / "x.mat", {"X": x})
    return folder / "x.mat"


FORMS: dict[str, Write] = {
    "npy": npy,
    "npy, Fortran order": fortran,
    "npz": npz,
    "csv": text(","),
    "csv without a heading": text(",", heading=False),
    "csv; decimal comma": text(";", ","),
    "tsv": text("\t", suffix=".tsv"),
    "white space": text("  ", suffix=".txt"),
    "csv.gz": text(",", suffix=".csv.gz"),
    "JSON Lines": json_lines,
    "Parquet": parquet,
    "Feather": feather,
    "HDF5": hdf5,
    "MATLAB": matlab,
}

LOAD = """
import hashlib, json, resource, sys, time
import torch
from tiedae_cli.config import DataConfig
from tiedae_cli.data.load_data import load_splits
import pyarrow.csv, pyarrow.compute, h5py, scipy.io
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.perf_counter()
splits = load_splits(DataConfig(dataset=sys.argv[1]))
seen = splits.train.batch(0, len(splits.train), torch.device("cpu"))
seconds = time.perf_counter() - began
digest = hashlib.sha256(seen.numpy().tobytes()).hexdigest()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "megabytes": (peak - before) / 1024, "digest": digest}))
"""


def measure(path: Path) -> dict[str, float | str]:
    """Load a file in a process of its own."""
    found = subprocess.run([sys.executable, "-c", LOAD, str(path)], check=True, stdout=subprocess.PIPE, text=True)
    values: dict[str, float | str] = json.loads(found.stdout)
    return values


def usage_of(command: str, folder: Path) -> dict[str, float]:
    """Return the seconds of a shell line, those of the processor, and its peak megabytes, also without memory-mapped files."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peaks = {"VmHWM": 0.0, "RssAnon": 0.0}
    while process.poll() is None:
        try:
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in peaks:
                    peaks[name] = max(peaks[name], int(value.split()[0]) / 1024)
        except (OSError, ValueError, IndexError):  # the process has ended meanwhile
            pass
        time.sleep(0.05)
    if process.returncode:
        sys.exit(f"{command}: exit code {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "megabytes": peaks["RssAnon"],
        "with_mapped_files": peaks["VmHWM"],
    }


def wide(folder: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Train on a wide CSV twice and score it, the second time with reasons; yield what each command used."""
    generator = np.random.default_rng(0)
    with open(folder / "wide.csv", "w") as file:
        file.write(",".join(f"c{index}" for index in range(WIDE[1])) + "\n")
        for _ in range(WIDE[0]):
            file.write(",".join(f"{value:.3f}" for value in generator.normal(size=WIDE[1])) + "\n")
    os.environ |= {"XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    tiedae = f"{sys.executable} -m tiedae_cli"
    train = f"{tiedae} train -q wide.csv epochs=1 hidden_sizes=64,16"
    commands = {
        "train, the first time": f"{train} --run-dir one",
        "train, from the cache": f"{train} --run-dir two",
        "score": f"{tiedae} score -q one wide.csv",
        "score --explain 3": f"{tiedae} score -q one wide.csv --false-alarms 0.05 --explain 3",
    }
    for name, command in commands.items():
        yield name, usage_of(command, folder)


def large(folder: Path, gigabytes: float) -> dict[str, dict[str, float]]:
    """Train on a large CSV twice and score it from a pipe."""
    block = np.random.default_rng(0).normal(size=(20_000, COLUMNS))
    lines = "".join(",".join(map(repr, row)) + "\n" for row in block.tolist()).encode()
    repeats = max(1, round(gigabytes * 1e9 / len(lines)))
    with open(folder / "large.csv", "wb") as file:
        file.write((",".join(f"c{index}" for index in range(COLUMNS)) + "\n").encode())
        for _ in range(repeats):
            file.write(lines)
    rows = repeats * len(block)
    tiedae = f"{sys.executable} -m tiedae_cli"
    train = f"{tiedae} train -q --config vectors --set data.dataset=large.csv --set training.epochs=1 --set training.batch_size=1000"
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    results = {}
    for name, command in (
        ("first training", f"{train} --run-dir one"),
        ("second training", f"{train} --run-dir two"),
        ("score from a pipe", f"{tiedae} score -q one --threshold 1 - < large.csv"),
    ):
        results[name] = usage_of(command, folder)
    results["the values as float32"] = {"seconds": 0.0, "megabytes": rows * COLUMNS * 4 / 1e6}
    return results


def main() -> None:
    """Parse, write, load, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--large", type=float, metavar="GB", help="also a CSV of this size")
    parser.add_argument("--wide", action="store_true", help="only a CSV of 20,000 columns")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.wide:
        with tempfile.TemporaryDirectory() as name:
            for command, used in wide(Path(name)):
                memory = f"{used['with_mapped_files']:>9.1f} MB, {used['megabytes']:.1f} MB anonymous"
                shown = f"{command:<24}{used['cpu_seconds']:>7.1f} CPU seconds {memory}"
                print(json.dumps({"command": command, **used}) if arguments.json else shown, flush=True)
        return
    x = np.random.default_rng(0).normal(size=(arguments.rows, COLUMNS))
    results: dict[str, dict[str, float | str]] = {}
    with tempfile.TemporaryDirectory() as name:
        for form, write in FORMS.items():
            folder = Path(name) / hashlib.sha256(form.encode()).hexdigest()[:8]
            folder.mkdir()
            results[form] = measure(write(folder, x))
        more = large(Path(name), arguments.large) if arguments.large else {}
    same = len({found["digest"] for found in results.values()}) == 1
    if arguments.json:
        print(json.dumps({"rows": arguments.rows, "identical": same, "forms": results, "large": more}))
    else:
        for form, found in results.items():
            print(f"{form:<24}{found['seconds']:>9.3f} s {found['megabytes']:>9.1f} MB")
        print("the training tensors are bit-identical" if same else "THE TRAINING TENSORS DIFFER")
        for form, figures in more.items():
            print(f"{form:<24}{figures['seconds']:>9.1f} s {figures['megabytes']:>9.1f} MB anonymous at the peak")
    sys.exit(not same)


if __name__ == "__main__":
    main()
