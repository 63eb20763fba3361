"""Trains on a .npy array larger than any memory budget and on a part of it held in memory; prints anonymous memory and images/s.

    python benchmarks/memory.py --gigabytes 6

Anonymous memory (RssAnon in /proc/PID/status, Linux) is what a process needs for itself; pages of a mapped file, which the kernel
drops when memory is short, are not in it. The array is written, read once so that the page cache is warm if it fits, and removed.
"""

import argparse
import contextlib
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tiedae_cli.runs import checkpoint

SIDE = 28
IN_MEMORY = 60_000  # images of the part that is held in memory
CONFIG = """\
data: {{dataset: {dataset}, validation: 5000, test: 5000}}
model: {{hidden_sizes: [300, 150], activation: elu}}
training: {{epochs: {epochs}, batch_size: 150, checkpoint_every: 1000000}}
"""


def main() -> None:
    """Write the array, measure, print, remove it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=6, help="size of the array")
    parser.add_argument("--seconds", type=float, default=20, help="of training, in each round")
    parser.add_argument("--rounds", type=int, default=3, help="how often the two are trained in turn")
    parser.add_argument(
        "--whole", action="store_true", help="also train one whole epoch on it, with validation, PCA and figures"
    )
    parser.add_argument("--folder", type=Path, help="where the array is written (default: the folder for temporary files)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="tiedae-memory-") as name:
        figures = measure(Path(name), arguments)
    print(json.dumps(figures) if arguments.json else report(figures))


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Train on both in turn; return what ``--json`` prints."""
    count = int(arguments.gigabytes * 1e9 / SIDE**2)
    if shutil.disk_usage(folder).free < 1.05 * count * SIDE**2:
        sys.exit(f"{folder}: no room for {arguments.gigabytes} GB; name another with --folder")
    write_array(folder / "array.npy", count)
    np.savez(folder / "part.npz", images=np.load(folder / "array.npy", mmap_mode="r")[:IN_MEMORY])
    warm(folder / "array.npy")
    rates: dict[str, list[float]] = {"array.npy": [], "part.npz": []}
    peaks = dict.fromkeys(rates, 0)
    for turn in range(arguments.rounds):
        for dataset in rates:
            run = folder / f"{dataset}-{turn}"
            peaks[dataset] = max(peaks[dataset], train(folder / dataset, run, 1_000_000, arguments.seconds))
            rates[dataset].append(items_per_second(run))
    mapped, in_memory = (statistics.median(rates[dataset]) for dataset in rates)
    figures = {
        "gigabytes": arguments.gigabytes,
        "images": count,
        "anonymous_megabytes": peaks["array.npy"] / 1e6,
        "items_per_second": mapped,
        "in_memory_anonymous_megabytes": peaks["part.npz"] / 1e6,
        "in_memory_items_per_second": in_memory,
        "over_in_memory": mapped / in_memory,
    }
    if arguments.whole:
        figures["whole_epoch_anonymous_megabytes"] = train(folder / "array.npy", folder / "whole", 1, math.inf) / 1e6
    return figures


def write_array(path: Path, count: int) -> None:
    """Write random images, the same 64 MB again and again: real blocks on the disk, quickly made."""
    block = np.random.default_rng(0).integers(0, 256, (1 << 26) // SIDE**2 * SIDE**2, dtype=np.uint8).reshape(-1, SIDE, SIDE)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (count, SIDE, SIDE)})
        for start in range(0, count, len(block)):
            file.write(block[: count - start].data)


def warm(path: Path) -> None:
    """Read a file once, so that what the memory has room for is in the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def train(
    dataset: Path,
    run: Path,
    epochs: int,
    seconds: float,
    options: Sequence[str] = (),
    limit: Callable[[], None] | None = None,
) -> int:
    """Train until so many seconds after the first step, then interrupt; return the peak of anonymous memory in bytes.

    Args:
        dataset: the array.
        run: the run folder.
        epochs: at most.
        seconds: of training.
        options: more of the command line.
        limit: what the process does before it starts.
    """
    config = run.with_suffix(".yaml")
    config.write_text(CONFIG.format(dataset=json.dumps(str(dataset)), epochs=epochs))
    command = [sys.executable, "-m", "tiedae_cli", "train", "--config", str(config), "--run-dir", str(run), "--quiet", *options]
    environment = {**os.environ, "LOCAL_WORLD_SIZE": "1000"}  # as if memory were short: what fits into its share is read
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=limit, env=environment
    )
    peak, deadline = 0, math.inf
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        if deadline == math.inf and (run / "config.yaml").exists():
            deadline = time.monotonic() + seconds
        if time.monotonic() > deadline:
            process.send_signal(signal.SIGINT)
            deadline = time.monotonic() + 60
        time.sleep(0.1)
    if process.returncode not in (0, 130):
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}\n{process.communicate()[1]}")
    return peak


def anonymous(pid: int) -> int:
    """Return a process's anonymous memory in bytes; 0 where it has just ended."""
    with contextlib.suppress(OSError, StopIteration), open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return 1024 * int(next(line for line in file if line.startswith("RssAnon:")).split()[1])
    return 0


def items_per_second(run: Path) -> float:
    """Return the rate over all steps that a run's newest checkpoint counts."""
    saved = checkpoint.load(run / "last.safetensors")
    state, size = saved.training, saved.config.training.batch_size
    seconds = state.seconds + sum(epoch.seconds for epoch in state.history)
    images = state.step * size + sum(epoch.seconds * epoch.items_per_second for epoch in state.history)
    return float(images / seconds)


def report(figures: dict[str, float]) -> str:
    """Return the figures for people."""
    mapped = f"{figures['gigabytes']:g} GB .npy, memory-mapped"
    lines = [
        f"{'':<30}{'anonymous memory':>18}{'images/s':>14}",
        f"{mapped:<30}{figures['anonymous_megabytes']:>15,.0f} MB{figures['items_per_second']:>14,.0f}",
        f"{f'{IN_MEMORY:,} images in memory':<30}{figures['in_memory_anonymous_megabytes']:>15,.0f} MB"
        f"{figures['in_memory_items_per_second']:>14,.0f}",
        f"images/s, mapped over in memory: {figures['over_in_memory']:.2f}",
    ]
    if "whole_epoch_anonymous_megabytes" in figures:
        lines.append(f"a whole epoch with validation, PCA, figures: {figures['whole_epoch_anonymous_megabytes']:,.0f} MB")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
