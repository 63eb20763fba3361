"""Train every sample config that makes a promise and hold it to its number.

    TIEDAE_DATA=... python benchmarks/recipes.py [--only NAME ...] [--json]

A promise is the line `# Promise: METRIC <= NUMBER` on top of a sample config; there is no other list. Each recipe is trained and
evaluated by the command line, as a user would. Exit code 1 if one is missed. A recipe whose data or device is not here is left out,
and said so. `folder` and `vectors` run on the bundled digits, written out as PNG files and as an array; `cifar10` on
cifar/cifar10-jpeg.npz in $TIEDAE_DATA: 20,000 training and 4,000 test images of CIFAR-10 that were JPEG files in between, as arrays
`train` and `test` of N x 32 x 32 x 3; `photographs` on 7,000 of them, enlarged to 64 x 64 and written out as PNG files.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tiedae_cli.config.samples import sample_configs
from tiedae_cli.config.yaml_reader import load_config
from tiedae_cli.data.item_set import SPLITS
from tiedae_cli.data.sources.digits import load_digits

PROMISE = re.compile(r"^# Promise: (.+?) <= ([0-9.]+)", re.MULTILINE)
METRICS = {  # from one object of `eval --json`
    "test squared error per image": lambda found: found["squared_error_per_item"],
    "training squared error per image": lambda found: found["squared_error_per_item"],
    "test MSE per pixel": lambda found: found["mse_per_value"],
    "test error over PCA's": lambda found: found["mse_per_value"] / found["pca"]["mse_per_value"],
    "denoising error over PCA's": lambda found: (
        found["denoising"]["model"]["mse_per_value"] / found["denoising"]["pca"]["mse_per_value"]
    ),
}


def promises() -> dict[str, tuple[str, float]]:
    """Return (metric, number) of each sample config that makes a promise."""
    found = {name: PROMISE.search(path.read_text()) for name, path in sample_configs().items()}
    return {name: (match[1], float(match[2])) for name, match in found.items() if match}


def own_data(name: str, folder: Path) -> list[str]:
    """Write what a recipe for the user's own data reads, where it is one; return the options that name it."""
    if name == "cifar10":
        return ["--set", f"data.dataset={cifar()}"]
    if name == "photographs":
        write_photos(folder / "images")
    elif name == "folder":
        write_digits(folder / "images")
    elif name == "vectors":
        splits = load_digits()
        rows = np.concatenate([splits.get(split).rows for split in SPLITS]).astype(np.float32)
        np.save(folder / "features.npy", rows)
        return ["--set", f"data.dataset={folder / 'features.npy'}"]
    else:
        return []
    return ["--set", f"data.dataset={folder / 'images'}"]


def cifar() -> Path:
    """Return the path of the images of `cifar10`, whether they are there or not."""
    return Path(os.environ.get("TIEDAE_DATA", "")) / "cifar" / "cifar10-jpeg.npz"


def write_digits(folder: Path) -> None:
    """Write the bundled digits as PNG files, a folder a split."""
    splits = load_digits()
    for split in SPLITS:
        (folder / split).mkdir(parents=True)
        for index, image in enumerate(splits.get(split).values[:, 0]):
            Image.fromarray(image).save(folder / split / f"{index:04}.png")


def write_photos(folder: Path) -> None:
    """Write images of CIFAR-10, twice as large, as PNG files: 6,000 of the training, 1,000 of the test."""
    with np.load(cifar()) as arrays:
        for split, count in (("train", 6000), ("test", 1000)):
            (folder / split).mkdir(parents=True)
            for index, pixels in enumerate(arrays[split][:count]):
                Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(folder / split / f"{index:04}.png")


def why_not(name: str) -> str | None:
    """Return why a recipe cannot run here, if so."""
    config = load_config(sample_configs()[name])
    if "gpu" in name and not torch.cuda.is_available():
        return "needs a CUDA device"
    root = config.data.root or os.environ.get("TIEDAE_DATA", "")
    folder = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}.get(config.data.sources[0])
    if folder is not None and not (Path(root) / folder).is_dir():
        return f"needs {folder}: set TIEDAE_DATA"
    if name in ("cifar10", "photographs") and not cifar().is_file():
        return "needs cifar/cifar10-jpeg.npz: set TIEDAE_DATA"
    return None


def tiedae(*arguments: str) -> str:
    """Run the command line; return its stdout."""
    command = [sys.executable, "-m", "tiedae_cli", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def run(name: str, metric: str, folder: Path) -> tuple[float, float]:
    """Return what a recipe reaches, and the seconds of its whole training command."""
    options = own_data(name, folder)
    began = time.perf_counter()
    checkpoint = tiedae("train", "-q", "--config", name, "--run-dir", str(folder / "run"), *options).strip()
    seconds = time.perf_counter() - began
    split = "train" if metric.startswith("training") else "test"
    found = json.loads(tiedae("eval", "-q", "--json", "--split", split, checkpoint))
    return METRICS[metric](found), seconds


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=sorted(promises()), metavar="NAME", help="only these recipes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results, missed = {}, False
    for name, (metric, promised) in promises().items():
        if arguments.only and name not in arguments.only:
            continue
        reason = why_not(name)
        if reason:
            print(f"left out: {name}: {reason}", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as folder:
            reached, seconds = run(name, metric, Path(folder))
        results[name] = {"promised": promised, "reached": reached, "seconds": seconds}
        missed |= reached > promised
        verdict = "MISSED" if reached > promised else "kept"
        if not arguments.json:
            print(f"{name:>15}  {metric:<34} {reached:8.4f} <= {promised:<7g} {verdict:<6} {seconds:7.1f} s", flush=True)
    if arguments.json:
        print(json.dumps(results))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
