"""Time one epoch of the reference config: the matrix products alone, tiedae, and what others would write, in turn in one run.

    TIEDAE_DATA=... python benchmarks/epoch.py --peers [--rounds 7] [--device cpu] [--json]

Prints medians over interleaved rounds and their ratio to the floor (the 11 products of a step in float32, each by the faster one of
torch's libraries, nothing else), so that a machine whose speed drifts treats all alike. Without MNIST under TIEDAE_DATA the images are
random, which no step's time depends on.
A peer that is not installed, or that would run on another device, is left out, and said so (`pip install --group bench`).

On CUDA tiedae has a row for each arithmetic (JAX multiplies in TF32 by default), and rows that show what the fused kernels and the
graphs of several steps gain: `-unfused` uses torch's operations, `-single` launches each step by itself. One run with --peers takes
about three minutes, most of it torch's DataLoader.
"""

import argparse
import functools
import gc
import importlib.util
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import peers
import torch

from tiedae_cli.config import Config
from tiedae_cli.data.item_set import ItemForm, ItemSet, Splits
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.system.devices import Place, has_bfloat16
from tiedae_cli.training.step.gradient import Gradient
from tiedae_cli.training.step.graph import CapturedStep
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
    trainer = Trainer(config, Splits(train, empty, empty, "benchmark"), Place(device, dtype))
    assert trainer.step.parameters.master.device.type == device.type
    reports = trainer.train()

    def epoch() -> None:
        while not isinstance(next(reports), EpochReport):
            pass

    return epoch


def in_tf32(make: Callable[[], peers.Epoch]) -> peers.Epoch:
    """Return an epoch that is made, and so captured, with TF32 products."""
    torch.set_float32_matmul_precision("high")
    try:
        return make()
    finally:
        torch.set_float32_matmul_precision("highest")


def only_on_cuda(images: np.ndarray, device: torch.device) -> dict[str, peers.Epoch]:
    """Return tiedae's rows that exist on CUDA alone."""
    step = "tiedae_cli.training.step.training_step"
    found = {"tiedae-tf32": in_tf32(lambda: tiedae(images, device, torch.float32))}
    with patch(f"{step}.gradient_class", lambda *_: Gradient):
        found["tiedae-tf32-unfused"] = in_tf32(lambda: tiedae(images, device, torch.float32))
        found["tiedae-bfloat16-unfused"] = tiedae(images, device, torch.bfloat16)
    with patch(f"{step}.CapturedStep", functools.partial(CapturedStep, steps_per_graph=1)):
        found["tiedae-bfloat16-single"] = tiedae(images, device, torch.bfloat16)
    return found


def contestants(images: np.ndarray, device: torch.device, with_peers: bool) -> tuple[dict[str, peers.Epoch], list[str]]:
    """Return the functions to time by name, and why others are left out."""
    found = {"floor": peers.floor(images, torch.float32, device), "tiedae-float32": tiedae(images, device, torch.float32)}
    left_out = []
    if has_bfloat16(device):
        found["floor-bfloat16"] = peers.floor(images, torch.bfloat16, device)
        found["tiedae-bfloat16"] = tiedae(images, device, torch.bfloat16)
    else:
        left_out.append(f"bfloat16: {device} has no arithmetic for it")
    if device.type == "cuda":
        found |= only_on_cuda(images, device)
    if with_peers:
        found["torch-autograd"] = peers.torch_autograd(images, device)
        if shutil.which("c++") is None and device.type == "cpu":
            left_out.append("torch-compile: no C++ compiler is installed")
        else:
            found["torch-compile"] = peers.torch_autograd(images, device, compiled=True)
        found["torch-dataloader"] = peers.torch_dataloader(images, device)
        for name, module, make in (("jax-scan", "jax", peers.jax_scan), ("keras", "keras", peers.keras_fit)):
            why_not = missing(module, device)
            if why_not:
                left_out.append(f"{name}: {why_not}")
            else:
                found[f"keras-{os.environ['KERAS_BACKEND']}" if name == "keras" else name] = make(images)
    return found, left_out


def missing(module: str, device: torch.device) -> str | None:
    """Return why JAX or Keras cannot run on a device, or None; Keras chooses the device of other backends itself."""
    uses_jax = module == "jax" or os.environ["KERAS_BACKEND"] == "jax"
    for name in (module, "jax") if uses_jax else (module,):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed"
    if not uses_jax:
        return None
    import jax

    platform = "gpu" if device.type == "cuda" else device.type
    return None if jax.default_backend() == platform else f"jax computes on {jax.default_backend()}, not on {platform}"


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
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes most of a GPU's memory
    device = torch.device(arguments.device)
    if device.type == "cpu":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
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
        print(f"{name:>23}  {medians[name]:7.3f} s  ({low:.3f} - {high:.3f})  {ratios[name]:6.2f} x floor")


if __name__ == "__main__":
    main()
