"""Time one epoch of the reference config: the matrix products alone, tiedae, and what others would write, in turn in one run.

    TIEDAE_DATA=... python benchmarks/epoch.py --peers [--rounds 7] [--device cpu] [--json]

Prints medians over interleaved rounds and their ratio to the floor (the 11 products of a step in float32, nothing else), so that a
machine whose speed drifts treats all alike. Without MNIST under TIEDAE_DATA the images are random, which no step's time depends on.
A peer that is not installed is left out, and said so (`pip install --group bench`).
"""

import argparse
import gc
import importlib.util
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import peers
import torch

from tiedae_cli.config import Config
from tiedae_cli.data.item_set import ItemForm, ItemSet, Splits
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.system.devices import Place, has_bfloat16
from tiedae_cli.training.trainer import Trainer

IMAGES = 55_000


def load_images() -> np.ndarray:
    """Return MNIST's training images after the validation split, else random ones: (55000, 784) uint8."""
    root = os.environ.get("TIEDAE_DATA", "")
    path = Path(root) / "MNIST/raw/train-images-idx3-ubyte"
    if root and path.exists():
        return np.fromfile(path, np.uint8, offset=16).reshape(-1, 784)[-IMAGES:].copy()
    return np.random.default_rng(0).integers(0, 256, (IMAGES, 784), dtype=np.uint8)


def tiedae(images: np.ndarray, device: torch.device, dtype: torch.dtype) -> peers.Epoch:
    """Return tiedae's own training loop, reports and all; each call runs it to the next epoch's end."""
    values = images.reshape(-1, 1, 28, 28)
    form = ItemForm((1, 28, 28), scale=1 / 255)
    train, empty = ItemSet(values, None, form), ItemSet(values[:0], None, form)
    config = Config.model_validate({"training": {"epochs": 1_000_000, "checkpoint_every": 1e6}})
    reports = Trainer(config, Splits(train, empty, empty, "benchmark"), Place(device, dtype)).train()

    def epoch() -> None:
        while not isinstance(next(reports), EpochReport):
            pass

    return epoch


def contestants(images: np.ndarray, device: torch.device, with_peers: bool) -> tuple[dict[str, peers.Epoch], list[str]]:
    """Return the functions to time by name, and why others are left out."""
    found = {"floor": peers.floor(images, torch.float32, device), "tiedae-float32": tiedae(images, device, torch.float32)}
    left_out = []
    if has_bfloat16(device):
        found["floor-bfloat16"] = peers.floor(images, torch.bfloat16, device)
        found["tiedae-bfloat16"] = tiedae(images, device, torch.bfloat16)
    else:
        left_out.append(f"bfloat16: {device} has no arithmetic for it")
    if with_peers:
        found["torch-autograd"] = peers.torch_autograd(images, device)
        found["torch-dataloader"] = peers.torch_dataloader(images, device)
        for name, module, make in (("jax-scan", "jax", peers.jax_scan), ("keras", "keras", peers.keras_fit)):
            if importlib.util.find_spec(module) is None:
                left_out.append(f"{name}: {module} is not installed")
            else:
                found[f"keras-{os.environ['KERAS_BACKEND']}" if name == "keras" else name] = make(images)
    return found, left_out


def time_in_turn(found: dict[str, peers.Epoch], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each contestant in each round; a first round, which compiles and warms, is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for number in range(rounds + 1):
        for name, epoch in found.items():
            gc.collect()
            began = time.perf_counter()
            epoch()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def main() -> None:
    """Parse, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="also time what others would write")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "jax")
    device = torch.device(arguments.device)
    found, left_out = contestants(load_images(), device, arguments.peers)
    seconds = time_in_turn(found, arguments.rounds)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    # The ratio is taken round by round: what slowed one round slowed both.
    ratios = {
        name: statistics.median(time / floor for time, floor in zip(times, seconds["floor"], strict=True))
        for name, times in seconds.items()
    }
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    if arguments.json:
        print(json.dumps({name: {"seconds": medians[name], "over_floor": ratios[name]} for name in found}))
        return
    print(
        f"one epoch of {IMAGES:,} images, {device}, {torch.get_num_threads()} threads, medians of {arguments.rounds} rounds in turn"
    )
    for name in sorted(found, key=medians.__getitem__):
        low, high = min(seconds[name]), max(seconds[name])
        print(f"{name:>18}  {medians[name]:7.3f} s  ({low:.3f} - {high:.3f})  {ratios[name]:6.2f} x floor")


if __name__ == "__main__":
    main()
