"""Every sample config exported with ``--part score``: onnxruntime beside tiedae, and three of them in OpenVINO.

    python benchmarks/exported.py [--items 3000] [--epochs 2] [--names mnist,vectors] [--json]
    python benchmarks/exported.py --table 1000000 [--repeats 3]

Each config is trained for a moment: on the first images of MNIST, Fashion-MNIST and CIFAR-10, on drawn photographs and parts, or on a
drawn table. Export itself compares onnxruntime with the program on all validation and test items and on extreme ones, and fails if they
differ by more than the tolerance; the table says how much of the tolerance was used. Items per second are those of scores alone, in this
process, on the threads that OMP_NUM_THREADS allows, in turn, the best of five. Start-up and peak memory are those of a process that scores
one item. ``--table`` times ``tiedae score`` as whole processes, in turn, on a ``.npy`` of so many rows of 64 numbers: with the checkpoint
and with the exported file, by the squared error and by ``neighbours``. OpenVINO (``pip install openvino``) computes float64 in float32.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from tiedae_cli.config.samples import sample_configs
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.runs.export_document import as_input, input_type
from tiedae_cli.runs.trained_run import OpenRun, open_run
from tiedae_cli.scoring.onnx_proof import as_seen, prove
from tiedae_cli.scoring.onnx_score import JudgedBy, build_score_onnx, score_document
from tiedae_cli.scoring.scorer import Scorer

TIEDAE = [sys.executable, "-m", "tiedae_cli"]
IN_OPENVINO = ("mnist-best", "defects", "vectors")
BLOCK, ROUNDS, COLUMNS = 1000, 5, 64
ONE_IN_ONNXRUNTIME = """
import sys, numpy as np, onnxruntime
onnxruntime.set_default_logger_severity(3)
session = onnxruntime.InferenceSession("model.onnx")
session.run(["score", "outlier"], {"input": np.load("one.npy")})
"""
ONE_IN_TIEDAE = """
import sys, numpy as np, tiedae
tiedae.load("run").score(np.load("one.npy"))
"""
PEAK = "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])\n"


def drawn_items(name: str, items: int) -> np.ndarray:
    """Return what a config trains on: (N, H, W), (N, H, W, 3) uint8 or (N, 64) float64."""
    generator = np.random.default_rng(0)
    if name in ("vectors", "anomalies"):
        hidden = generator.standard_normal((items, 6))
        return hidden @ generator.standard_normal((6, COLUMNS)) + 0.3 * generator.standard_normal((items, COLUMNS))
    side, channels = {"defects": (64, 1), "folder": (32, 1), "photographs": (64, 3), "cifar10": (32, 3)}.get(name, (28, 1))
    ramp = np.linspace(0, 1, side)
    waves = [generator.random((items, 1, 1, channels)) * 6 for _ in range(4)]
    surface = np.sin(waves[0] * ramp[:, None, None] * 3 + waves[1]) + np.sin(waves[2] * ramp[None, :, None] * 3 + waves[3])
    pixels = (surface + 2 + 0.05 * generator.standard_normal(surface.shape)) * 60
    values: np.ndarray = pixels.clip(0, 255).astype(np.uint8)
    return values if channels > 1 else values[..., 0]


def items_of(name: str, dataset: str, items: int) -> np.ndarray:
    """Return the first items of a config's own data set if it is here, else drawn ones."""
    from tiedae_cli.config import DataConfig
    from tiedae_cli.data.load_data import load_splits
    from tiedae_cli.errors import TiedaeError

    if dataset in ("mnist", "fashion-mnist", "cifar10", "digits"):
        try:
            train = load_splits(DataConfig(dataset=dataset), False).train
        except TiedaeError:
            return drawn_items(name, items)
        images = train.values[:items] if train.indices is None else train.values[train.indices[:items]]
        return np.ascontiguousarray(images[:, 0] if images.shape[1] == 1 else images)
    return drawn_items(name, items)


def trained(name: str, options: argparse.Namespace) -> OpenRun:
    """Train a config for a moment in the working folder."""
    from tiedae_cli.config.yaml_reader import load_config

    config = load_config(sample_configs()[name])
    np.save("items.npy", items_of(name, str(config.data.dataset), options.items))
    words = [
        "data.dataset=items.npy",
        "data.validation=0.2",
        f"training.epochs={options.epochs}",
        "training.pretraining_epochs=0",
    ]
    words += ["data.size=null", "training.steps=null"]
    sets = [part for word in words for part in ("--set", word)]
    subprocess.run([*TIEDAE, "train", "--config", name, "-q", "--run-dir", "run", *sets], check=True, stdout=subprocess.DEVNULL)
    return open_run("run", "cpu")


def rate(function: Callable[[], object], items: int) -> float:
    """Return items per second, of the best of some rounds."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return items / min(seconds)


def process(code: str) -> tuple[float, float]:
    """Return the CPU seconds and the peak megabytes of a process that runs some Python code."""
    child = subprocess.Popen([sys.executable, "-c", code + PEAK], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    peak = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    assert status == 0, code
    return used.ru_utime + used.ru_stime, int(peak) / 1024


def measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one config."""
    run = trained(name, options)
    scorer = Scorer(run)
    document = score_document(scorer, JudgedBy())
    content = build_score_onnx(run.network, run.form, scorer.ranker, document)
    Path("model.onnx").write_bytes(content)
    proof = prove(content, scorer, document)
    raw = raw_values(run, BLOCK)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, settings)
    values, seen = as_input(raw, run.form), torch.from_numpy(as_seen(raw, run.form))
    quick = onnxruntime.RunOptions()
    quick.only_execute_path_to_fetches = True
    onnx_rate = rate(lambda: session.run(["score", "outlier"], {"input": values}, quick), len(raw))
    torch_rate = rate(lambda: scorer.scores(seen), len(raw))
    np.save("one.npy", values[:1])
    row: dict[str, Any] = {
        "config": name,
        "items_compared": proof.items,
        "largest_difference": proof.largest_difference,
        "share_of_tolerance": proof.share_of_allowed,
        "megabytes": len(content) / 1e6,
        "items_per_second": onnx_rate,
        "items_per_second_tiedae": torch_rate,
    }
    if name in IN_OPENVINO:
        row["openvino_difference"] = openvino_difference(values, scorer.scores(seen).numpy())
        row["cpu_seconds"], row["peak_megabytes"] = process(ONE_IN_ONNXRUNTIME)
        row["cpu_seconds_tiedae"], row["peak_megabytes_tiedae"] = process(ONE_IN_TIEDAE)
    return row


def raw_values(run: OpenRun, count: int) -> np.ndarray:
    """Return items of the test split, repeated, as the graph takes them, (N, D)."""
    form: ItemForm = run.form
    items = run.split("test")
    raw = items.raw(0, len(items)).astype(input_type(form))
    return np.resize(raw, (count, form.values_per_item))


def openvino_difference(values: np.ndarray, expected: np.ndarray) -> float | None:
    """Return the largest relative difference of OpenVINO's scores; None without OpenVINO."""
    try:
        import openvino
    except ImportError:
        return None
    compiled = openvino.Core().compile_model("model.onnx", "CPU")
    feed = {"input": values}
    found = compiled(feed)[compiled.output("score")]
    return float(np.max(np.abs(found - expected) / np.maximum(expected, 1e-3)))


def table_times(rows: int, repeats: int) -> list[dict[str, Any]]:
    """Return the seconds of whole processes of ``tiedae score`` on a table, in turn."""
    np.save("train.npy", drawn_items("vectors", 12_000))
    shared = [
        "--config",
        "vectors",
        "-q",
        "--set",
        "data.dataset=train.npy",
        "--set",
        "model.hidden_sizes=[16]",
        "--epochs",
        "2",
    ]
    found = []
    for rank, count in (("squared_error", rows), ("neighbours", max(1, rows // 50))):
        np.save("x.npy", drawn_items("vectors", count).astype(np.float32))
        run = f"run-{rank}"
        for words in (
            ["train", *shared, "--run-dir", run, "--set", f"score.rank={rank}"],
            ["export", run, "-q", "--part", "score", "-o", "model.onnx"],
        ):
            subprocess.run([*TIEDAE, *words], check=True, stdout=subprocess.DEVNULL)
        seconds: dict[str, list[float]] = {run: [], "model.onnx": []}
        for _ in range(repeats):
            for model, times in seconds.items():
                start = resource.getrusage(resource.RUSAGE_CHILDREN)
                subprocess.run([*TIEDAE, "score", model, "x.npy", "-q", "-o", "scores.jsonl"], check=True)
                end = resource.getrusage(resource.RUSAGE_CHILDREN)
                times.append(end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime)
        found.append(
            {"rank": rank, "rows": count, "cpu_seconds": min(seconds["model.onnx"]), "cpu_seconds_tiedae": min(seconds[run])}
        )
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--names", default=",".join(sample_configs()))
    parser.add_argument("--table", type=int, metavar="ROWS")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object per line on stdout")
    options = parser.parse_args()
    onnxruntime.set_default_logger_severity(3)
    home = os.getcwd()
    jobs = [None] if options.table else options.names.split(",")
    for name in jobs:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                found = table_times(options.table, options.repeats) if name is None else [measured(name, options)]
            finally:
                os.chdir(home)
        for row in found:
            text = ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
            print(json.dumps(row) if options.json else text, flush=True)


if __name__ == "__main__":
    main()
