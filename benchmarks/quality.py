"""Seconds to an error, and the error after given seconds: tiedae's linear path and optimizers, Keras's ``fit()``, a PyTorch loop.

    TIEDAE_DATA=... python benchmarks/quality.py small|deep [--seeds 0 1 2] [--only NAME ...] [--rate R] [--picture FILE] [--json FILE]
    TIEDAE_DATA=... python benchmarks/quality.py small --search

``small`` is 784-300-150, ``deep`` 784-1000-500-250-30, both tied, on MNIST. ``tiedae-path`` is the same network beside a linear path
that starts as PCA, with a clipped output, as in ``mnist-best``; ``tiedae-one-layer`` is that path alone, as in ``mnist-linear``. Each
point is a whole program in a process of its own, from the imports to the picture: for tiedae also PCA, the checkpoints and the summary.
A point is one number of epochs, and its schedule ends with it; the programs run in turn, epochs by epochs and seed by seed. Seconds to
an error are those of the fewest epochs whose median test error is at most that. The error after given seconds is that of the most epochs
whose median seconds fit. On a busy machine ``OMP_NUM_THREADS=1`` and ``--processor`` count the processor's seconds instead of the
clock's.

``--search`` prints the validation error of each of ``RATES`` at the second number of epochs, and stops.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from quality_peers import VALIDATION, images

import tiedae_cli as tiedae

HERE = Path(__file__).resolve().parent
RATES = (0.003, 0.005, 0.008, 0.012, 0.02, 0.03)
WITHIN = (15.0, 60.0, 300.0)  # seconds


@dataclass(frozen=True)
class Net:
    """A net, the error to be reached with it, PCA's with as many numbers, and how long each contestant trains it."""

    sizes: tuple[int, ...]
    activation: str
    target: float
    pca: float
    epochs: tuple[int, ...]
    rates: dict[str, float]
    """The highest learning rate by contestant."""


@dataclass(frozen=True)
class Point:
    """One program's run."""

    seconds: float
    processor: float
    """Seconds of the processor, over all threads."""
    validation: float
    """Squared error per image."""
    test: float


PATHS = ("tiedae-path", "tiedae-one-layer")
NAMES = (*PATHS, "tiedae-adam", "tiedae-soap", "tiedae-muon", "torch", "keras")
OWN = {"tiedae-soap": {"cross_entropy_weight": 0.01}}  # as its recipes: a pixel that got stuck at 0 or 1 comes back
ADAMS = dict.fromkeys(NAMES, 0.012)  # 0.02 is better after 5 epochs, but with some seeds the peers' networks collapse
SMALL = {**ADAMS, "tiedae-path": 0.003, "tiedae-one-layer": 0.003, "tiedae-soap": 0.008, "tiedae-muon": 0.003}
NETS = {
    "small": Net((300, 150), "relu", 1.0, 2.684, (1, 2, 3, 5, 8, 12, 20), SMALL),
    "deep": Net((1000, 500, 250, 30), "silu", 3.0, 13.87, (8, 12, 20, 30, 45), dict.fromkeys(NAMES, 0.003)),
}


def run(name: str, net: Net, epochs: int, rate: float, seed: int) -> Point:
    """Run one program to its end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable]
        if name.startswith("tiedae-"):
            model = {"hidden_sizes": net.sizes, "activation": net.activation, "code_activation": "linear", "output": "sigmoid"}
            if name in PATHS:
                model |= {"linear_path": "pca", "output": "clip"}
            if name == "tiedae-one-layer":
                model["hidden_sizes"] = net.sizes[-1:]
            optimizer = "adam" if name in PATHS else name.removeprefix("tiedae-")
            training = {"optimizer": optimizer, "epochs": epochs, "learning_rate": rate, "seed": seed}
            training |= {"batch_size": 250, "schedule": "one_cycle", "l2": 0.0, "loss": "squared_error"} | OWN.get(name, {})
            config = Path(folder) / "config.json"  # JSON is YAML
            config.write_text(json.dumps({"data": {"dataset": "mnist"}, "model": model, "training": training}))
            command += ["-m", "tiedae_cli", "train", "-q", "--config", str(config), "--run-dir", f"{folder}/run"]
        else:
            command += [str(HERE / "quality_peers.py"), name, "--sizes", *map(str, net.sizes), "--activation", net.activation]
            command += ["--epochs", str(epochs), "--rate", str(rate), "--seed", str(seed), "--picture", f"{folder}/picture.png"]
        began, used = time.perf_counter(), _processor_seconds()
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds, processor = time.perf_counter() - began, _processor_seconds() - used
        if not name.startswith("tiedae-"):
            return Point(seconds, processor, **json.loads(printed))
        trained = tiedae.load(f"{folder}/run")
        validation, test = (
            float(np.mean(trained.score(items.reshape(-1, 28, 28)))) for items in (images("train")[:VALIDATION], images("t10k"))
        )
    return Point(seconds, processor, validation, test)


def _processor_seconds() -> float:
    """Return what the children that have ended have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def search(net: Net, names: Sequence[str]) -> dict[str, dict[float, float]]:
    """Print and return the validation error of each learning rate."""
    found: dict[str, dict[float, float]] = {name: {} for name in names}
    for rate in RATES:
        for name in names:
            found[name][rate] = run(name, net, net.epochs[1], rate, 0).validation
            print(f"{name:>12}  learning rate {rate:<6g} validation {found[name][rate]:8.3f}", flush=True)
    return found


def measure(net: Net, names: Sequence[str], seeds: Sequence[int], longest: float) -> dict[str, dict[int, list[Point]]]:
    """Return the points of each contestant by epochs; one that took longer than ``longest`` seconds trains no more epochs."""
    points: dict[str, dict[int, list[Point]]] = {name: {} for name in names}
    for epochs in net.epochs:
        slow = {name for name in names for found in points[name].values() for point in found if point.seconds > longest}
        for seed in seeds:
            for name in names:
                if name in slow:
                    continue
                point = run(name, net, epochs, net.rates[name], seed)
                points[name].setdefault(epochs, []).append(point)
                print(
                    f"{name:>12}  {epochs:3} epochs  seed {seed}  {point.seconds:7.1f} s  test {point.test:7.3f}",
                    file=sys.stderr,
                    flush=True,
                )
    return points


def summary(net: Net, points: dict[int, list[Point]]) -> dict[str, object]:
    """Return the seconds to the target, and the error within each of ``WITHIN``."""
    medians = [
        (epochs, statistics.median(p.seconds for p in found), statistics.median(p.test for p in found))
        for epochs, found in points.items()
    ]
    reached = next(((epochs, seconds) for epochs, seconds, test in medians if test <= net.target), None)
    within = {}
    for limit in WITHIN:
        fitting = [(test, epochs) for epochs, seconds, test in medians if seconds <= limit]
        within[f"{limit:g}"] = fitting[-1][0] if fitting else None
    return {"epochs_to_target": reached and reached[0], "seconds_to_target": reached and reached[1], "error_within": within}


def draw(net: Net, points: dict[str, dict[int, list[Point]]], path: Path) -> None:
    """Draw the error against the seconds, and PCA's."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure, axes = pyplot.subplots(figsize=(8, 4.5), dpi=100)
    for name, found in points.items():
        seconds = [statistics.median(p.seconds for p in each) for each in found.values()]
        errors = [statistics.median(p.test for p in each) for each in found.values()]
        axes.plot(seconds, errors, marker="o", markersize=4, label=name, linewidth=2 if name in PATHS else 1.2)
    axes.axhline(net.pca, color="gray", linestyle="--", label=f"PCA, {net.sizes[-1]} components: {net.pca:g}")
    axes.axhline(net.target, color="gray", linewidth=0.6, linestyle=":", label=f"the error to be reached: {net.target:g}")
    axes.set(xscale="log", yscale="log", xlabel="seconds of the whole program", ylabel="test squared error per image")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in (0.8, 1, 1.5, 2, 3, 5, 7, 10, 14) if low <= tick <= high])
    axes.set_xticks([tick for tick in (5, 10, 15, 30, 60, 120, 300, 600) if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]])
    axes.set_title("784-" + "-".join(map(str, net.sizes)) + ", tied, MNIST", fontsize=11)
    axes.grid(True, alpha=0.25)
    axes.legend(fontsize=9, framealpha=1, edgecolor="none", loc="upper right", bbox_to_anchor=(1, 0.93))
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Parse, search or measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", choices=NETS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME")
    parser.add_argument("--epochs", type=int, nargs="+", help="instead of the net's own numbers")
    parser.add_argument("--rate", type=float, help="learning rate of all, instead of their own")
    parser.add_argument("--longest", type=float, default=60.0, help="seconds after which a contestant trains no more epochs")
    parser.add_argument("--search", action="store_true", help="scan the learning rates, and stop")
    parser.add_argument("--processor", action="store_true", help="count seconds of the processor")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path, help="write all points there")
    arguments = parser.parse_args()
    net = NETS[arguments.net]
    if arguments.epochs:
        net = replace(net, epochs=tuple(arguments.epochs))
    if arguments.rate:
        net = replace(net, rates=dict.fromkeys(NAMES, arguments.rate))
    if arguments.search:
        search(net, arguments.only)
        return
    points = measure(net, arguments.only, arguments.seeds, arguments.longest)
    if arguments.processor:
        points = {
            name: {epochs: [replace(p, seconds=p.processor) for p in each] for epochs, each in by.items()}
            for name, by in points.items()
        }
    if arguments.json:
        found = {name: {epochs: [vars(p) for p in each] for epochs, each in by.items()} for name, by in points.items()}
        arguments.json.write_text(json.dumps(found))
    if arguments.picture:
        draw(net, points, arguments.picture)
    heads = "".join(f"{f'in {limit:g} s':>11}" for limit in WITHIN)
    print(f"{'':>12}  seconds to {net.target:g}  (epochs){heads}    test squared error per image, PCA {net.pca:g}")
    for name, by in points.items():
        told = summary(net, by)
        seconds, epochs = told["seconds_to_target"], told["epochs_to_target"]
        reached = f"{seconds:12.1f}  {epochs:>8}" if seconds else f"{'not reached':>12}  {'':>8}"
        within = told["error_within"]
        assert isinstance(within, dict)
        print(f"{name:>12}  {reached}" + "".join(f"{value:11.3f}" if value else f"{'–':>11}" for value in within.values()))


if __name__ == "__main__":
    main()
