"""Images/s of training in a file larger than the memory, shuffled item by item and in blocks; and what blocks do to the error.

    python benchmarks/shuffle.py speed --gigabytes 4 --memory 2 [--seconds 40] [--folder DIR]     (Linux, as root: limits its own memory)
    TIEDAE_DATA=... python benchmarks/shuffle.py error [--seeds 0 1 2]

``speed`` puts each training into a control group with that much memory, page cache and all, so that most of the file must come from
the disk, and a net so small (784-32) that reading sets the pace. ``error`` trains the model of `mnist-best` for a few epochs on MNIST
with blocks and windows as small beside it as 8 MB and 64 blocks are beside 30 GB, in the order of the file and, the worst case, sorted
by digit.
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import memory
import torch

from tiedae_cli.config import Config
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.system.devices import Place
from tiedae_cli.training import order
from tiedae_cli.training.trainer import Trainer

SHUFFLES = ("items", "blocks")
GROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))  # version 1 and 2


def limited(gigabytes: float) -> Callable[[], None]:
    """Return what a child process does to have so much memory; makes its control group."""
    parent = next((path for path in GROUPS if (path / "cgroup.procs").exists()), None)
    if parent is None:
        sys.exit("no control groups here: `speed` needs Linux and root")
    group = parent / "tiedae-shuffle"
    group.mkdir(exist_ok=True)
    limit = "memory.limit_in_bytes" if parent == GROUPS[0] else "memory.max"
    (group / limit).write_text(str(int(gigabytes * 1e9)))

    def enter() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    return enter


def speed(arguments: argparse.Namespace) -> None:
    """Write the file, train both ways in turn, print."""
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="tiedae-shuffle-") as name:
        folder = Path(name)
        memory.write_array(folder / "array.npy", int(arguments.gigabytes * 1e9 / memory.SIDE**2))
        rates: dict[str, list[float]] = {shuffle: [] for shuffle in SHUFFLES}
        for turn in range(arguments.rounds):
            for shuffle in SHUFFLES:
                with open(folder / "array.npy", "rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                run = folder / f"{shuffle}-{turn}"
                options = [f"training.shuffle={shuffle}", "model.hidden_sizes=[32]", "training.batch_size=1000"]
                options = [text for option in options for text in ("--set", option)]
                memory.train(folder / "array.npy", run, 1_000_000, arguments.seconds, options, limited(arguments.memory))
                rates[shuffle].append(memory.items_per_second(run))
                print(f"{shuffle:>7}  {rates[shuffle][-1]:12,.0f} images/s", flush=True)
        items, blocks = (statistics.median(rates[shuffle]) for shuffle in SHUFFLES)
        print(f"{arguments.gigabytes:g} GB, {arguments.memory:g} GB of memory: blocks over items: {blocks / items:.1f}")


def error(arguments: argparse.Namespace) -> None:
    """Train by items, by blocks of the file's order and by blocks of sorted digits; print the validation errors."""
    config = Config.model_validate(
        {
            "data": {"dataset": "mnist"},
            "model": {"hidden_sizes": [300, 150], "activation": "relu", "code_activation": "linear", "output": "sigmoid"},
            "training": {
                **{"epochs": arguments.epochs, "batch_size": 150, "learning_rate": 0.005, "schedule": "one_cycle", "l2": 0.0},
                **{"loss": "squared_error", "optimizer": "adam"},
            },
        }
    )
    splits = load_splits(config.data)
    assert splits.train.labels is not None
    by_digit = splits.train.select(splits.train.labels.argsort(kind="stable"))
    order.BLOCK_BYTES = int(order.BLOCK_BYTES * len(splits.train) * splits.form.values_per_item / 30e9)
    found: dict[str, list[float]] = {}
    for seed in arguments.seeds:
        for name, train, shuffle in (
            ("items", splits.train, "items"),
            ("blocks", splits.train, "blocks"),
            ("blocks, sorted by digit", by_digit, "blocks"),
        ):
            chosen = config.model_copy(
                update={"training": config.training.model_copy(update={"seed": seed, "shuffle": shuffle})}
            )
            trainer = Trainer(chosen, replace(splits, train=train), Place(torch.device("cpu")))
            for _ in trainer.train():
                pass
            found.setdefault(name, []).append(
                (trainer.history[-1].validation_mse_per_value or math.nan) * splits.form.values_per_item
            )
            print(json.dumps({"seed": seed, "order": name, "validation": found[name][-1]}), flush=True)
    for name, errors in found.items():
        print(f"{name:>24}  {statistics.mean(errors):.4f}  ({min(errors):.4f} - {max(errors):.4f})  squared error per image")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "error"])
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--memory", type=float, default=2)
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    {"speed": speed, "error": error}[arguments.what](arguments)


if __name__ == "__main__":
    main()
