"""Print images/s and memory against the number of images, the hidden sizes and the number of processes.

    python benchmarks/scale.py [--images 10000 100000 1000000 4000000] [--seconds 10] [--folder DIR] [--json]

Each point is a training by the command line in a process of its own, on a memory-mapped array of random 28 x 28 images. Anonymous
memory is what the process needs for itself (see memory.py). Only points of one call are comparable.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import memory

HIDDEN = ((300, 150), (1000, 500, 250, 30), (2048, 512), (4096, 1024))
SMALL = 12_000  # images of the arrays for hidden sizes and processes


def settings(**values: object) -> list[str]:
    """Return ``--set`` options; ``__`` stands for the dot of a key."""
    return [text for key, value in values.items() for text in ("--set", f"{key.replace('__', '.')}={json.dumps(value)}")]


def by_images(folder: Path, counts: list[int], seconds: float) -> list[dict[str, object]]:
    """Train for some seconds on arrays of growing length."""
    points: list[dict[str, object]] = []
    for count in counts:
        array, run = folder / "array.npy", folder / f"images-{count}"
        memory.write_array(array, count)
        memory.warm(array)
        anonymous = memory.train(array, run, 1_000_000, seconds)
        points.append({"images": count, "items_per_second": memory.items_per_second(run), "anonymous_mb": anonymous / 1e6})
        array.unlink()
    return points


def epochs_on_small(folder: Path, name: str, launcher: list[str], options: list[str]) -> float:
    """Train three epochs on a small array; return the images/s of the best."""
    array, run = folder / "small.npy", folder / name
    if not array.exists():
        memory.write_array(array, SMALL)
    data = settings(data__dataset=str(array), data__validation=1000, data__test=1000, training__epochs=3)
    command = [*launcher, "-m", "tiedae_cli", "train", "-q", "--config", "mnist", "--run-dir", str(run), *data, *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return float(max(epoch["items_per_second"] for epoch in epochs))


def by_hidden_sizes(folder: Path) -> list[dict[str, object]]:
    """Train nets of growing width."""
    points: list[dict[str, object]] = []
    for number, sizes in enumerate(HIDDEN):
        rate = epochs_on_small(folder, f"hidden-{number}", [sys.executable], settings(model__hidden_sizes=sizes))
        weights = sum(a * b for a, b in zip((784, *sizes), sizes, strict=False))
        points.append({"hidden_sizes": sizes, "items_per_second": rate, "gflops": rate * flops(weights, sizes) / 1e9})
    return points


def flops(weights: int, sizes: tuple[int, ...]) -> int:
    """Return the arithmetic of one image's step: six products a weight, less the gradient of the pixels (docs/scaling.md)."""
    return 12 * weights - 2 * 784 * sizes[0]


def by_processes(folder: Path, counts: list[int]) -> list[dict[str, object]]:
    """Train with several processes on this machine, the cores shared out among them."""
    points: list[dict[str, object]] = []
    for count in counts:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count)]
        os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // count))
        for batch in (150, 3000):
            options = settings(training__batch_size=batch)
            rate = epochs_on_small(folder, f"processes-{count}-{batch}", launcher if count > 1 else [sys.executable], options)
            points.append({"processes": count, "batch_size": batch, "items_per_second": rate})
    del os.environ["OMP_NUM_THREADS"]
    return points


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 4_000_000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=10, help="of training, for each number of images")
    parser.add_argument("--folder", type=Path, help="where arrays are written (default: the folder for temporary files)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    # memory.py keeps 10,000 images of each array for validation and test.
    counts = [max(count, 10_000) + 10_000 for count in arguments.images]
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="tiedae-scale-") as name:
        folder = Path(name)
        found = {
            "images": by_images(folder, counts, arguments.seconds),
            "hidden_sizes": by_hidden_sizes(folder),
            "processes": by_processes(folder, arguments.processes),
        }
    if arguments.json:
        print(json.dumps(found))
        return
    for points in found.values():
        print("  ".join(f"{key:>20}" for key in points[0]))
        for point in points:
            cells = [f"{value:,.0f}" if isinstance(value, float) else f"{value}" for value in point.values()]
            print("  ".join(f"{cell:>20}" for cell in cells))
        print()


if __name__ == "__main__":
    main()
