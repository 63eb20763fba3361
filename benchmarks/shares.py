"""Print the memory of 1, 2 and 4 processes of one training, for data in a .npy file and in a CSV.

    python benchmarks/shares.py [--rows 1000000] [--processes 1 2 4] [--sources npy csv] [--folder DIR] [--json]

Each point trains on rows of 64 float32 values, by ``torchrun`` on this machine, with an empty cache folder. Anonymous memory (RssAnon
in /proc/PID/status, Linux) is what a process needs for itself: the most that any process of the training has at the end of the first
epoch, and the most that it has had by then. PSS also counts pages of mapped files, divided by the processes that map them: its sum over
the processes. What the same training needs on 10,000 rows is subtracted.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import memory
import numpy as np
import psutil

WIDTH, FEW = 64, 10_000


def write(path: Path, rows: int) -> None:
    """Write random numbers, block by block."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        if path.suffix == ".npy":
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, WIDTH)})
        else:
            file.write((",".join(f"c{number}" for number in range(WIDTH)) + "\n").encode())
        for start in range(0, rows, FEW):
            block = rng.normal(size=(min(FEW, rows - start), WIDTH)).astype(np.float32)
            if path.suffix == ".npy":
                file.write(block.data)
            else:
                np.savetxt(file, block, "%.6g", ",")


def pss(pid: int) -> int:
    """Return the proportional set size of a process in bytes; 0 where it has just ended."""
    with contextlib.suppress(OSError, StopIteration), open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        return 1024 * int(next(line for line in file if line.startswith("Pss:")).split()[1])
    return 0


def train(data: Path, run: Path, processes: int) -> tuple[int, int, int]:
    """Train one epoch; return a process's anonymous memory and its peak, and the sum of the PSS, in bytes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "-m", "tiedae_cli", "train"]
    keys = ["-q", "--run-dir", str(run), str(data), "hidden_sizes=32,8", "epochs=1000000", "batch_size=5000"]
    variables = os.environ | {"XDG_CACHE_HOME": str(run.with_suffix(".cache")), "OMP_NUM_THREADS": "1"}
    peak = 0
    with subprocess.Popen([*command, *keys], env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as started:
        while started.poll() is None:
            children = [] if started.poll() is not None else [child.pid for child in psutil.Process(started.pid).children()]
            own = max((memory.anonymous(pid) for pid in children), default=0)
            peak = max(peak, own)
            if (run / "metrics.jsonl").exists():
                found = own, peak, sum(map(pss, children))
                for pid in (*children, started.pid):
                    os.kill(pid, signal.SIGKILL)
                shutil.rmtree(run.with_suffix(".cache"), ignore_errors=True)
                return found
            time.sleep(0.05)
        sys.exit(f"{' '.join(command)}: exit code {started.returncode}")


def measure(folder: Path, sources: list[str], rows: int, counts: list[int]) -> list[dict[str, object]]:
    """Train on each source with each number of processes."""
    points: list[dict[str, object]] = []
    for source in sources:
        small, large = folder / f"small.{source}", folder / f"large.{source}"
        write(small, FEW)
        write(large, rows)
        for count in counts:
            base = train(small, folder / f"{source}-{count}-small", count)
            found = train(large, folder / f"{source}-{count}", count)
            own, peak, total = (round((more - least) / 1e6) for more, least in zip(found, base, strict=True))
            points.append({"source": source, "processes": count, "anonymous_mb": own, "peak_mb": peak, "pss_mb": total})
            print(*points[-1].values(), file=sys.stderr)
        large.unlink()
    return points


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--sources", nargs="+", default=["npy", "csv"], choices=["npy", "csv"])
    parser.add_argument("--folder", type=Path, help="where the data is written (default: the folder for temporary files)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="tiedae-shares-") as name:
        points = measure(Path(name), arguments.sources, arguments.rows, arguments.processes)
    if arguments.json:
        print(json.dumps(points))
        return
    print("  ".join(f"{key:>12}" for key in points[0]))
    for point in points:
        print("  ".join(f"{value:>12}" for value in point.values()))


if __name__ == "__main__":
    main()
