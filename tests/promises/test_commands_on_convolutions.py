"""Every command works on convolutions as on dense layers: tied or untied, with codes of numbers or channels, sparse or not."""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import random_bytes
from torch import Tensor
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.config import ModelConfig
from tiedae_cli.model.autoencoder import TiedAutoencoder, build_autoencoder
from tiedae_cli.output.reconstructions import picture_title
from tiedae_cli.runs import checkpoint as checkpoints
from tiedae_cli.runs.checkpoint import Checkpoint

pytestmark = pytest.mark.slow

PIXELS = random_bytes(60, 3, 7, 6, seed=1)  # (N, C, H, W), of sides that no stride divides
X = PIXELS.flatten(1) / 255  # (N, D), as the model sees them
KINDS = {
    "dense code": ["layers=[conv 6 4 2, conv 8 3 2, dense 5]"],
    "code of channels": ["layers=[conv 6 4 2, conv 2 3 2]"],
    "untied": ["layers=[conv 6 4 2, dense 5]", "tied=false"],
    "top k": ["layers=[conv 6 3 2, conv 4 3 2]", "code_top_k=3"],
    "kl, muon": ["layers=[conv 6 4 2, dense 8]", "code_activation=sigmoid", "sparsity=kl", "optimizer=muon"],
}


def run(*arguments: str, stdin: bytes = b"") -> tuple[bytes, str]:
    """Run a command in this process; return stdout and stderr."""
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    assert result.exit_code == 0, result.stderr
    return result.stdout_bytes, result.stderr


def train(folder: str, *settings: str) -> None:
    base = ["activation=silu", "output=sigmoid", "loss=squared_error", "batch_size=10", "learning_rate=0.003", "l2=0"]
    run("train", "x.npy", *base, *settings, "--run-dir", folder, "-q")


def png(name: str) -> np.ndarray:
    with Image.open(name) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def trained_kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, ``x.npy``, and a training on them, ``runs/net``: layer by layer first, then two epochs of all together."""
    folder, before = tmp_path_factory.mktemp("convolutions"), Path.cwd()
    os.chdir(folder)
    np.save("x.npy", PIXELS.numpy())
    train("runs/net", *request.param, "epochs=2", "pretraining_epochs=1", "flip=true", "shift=1", "shift_edges=mirror")
    os.chdir(before)
    return folder


@pytest.fixture
def trained(trained_kind: Path, empty_folder: Path) -> Checkpoint:
    """The checkpoint of a training that lies in the working folder."""
    shutil.copytree(trained_kind, empty_folder, dirs_exist_ok=True)
    return checkpoints.load(Path("runs/net/best.safetensors"))


@pytest.fixture
def model(trained: Checkpoint) -> TiedAutoencoder:
    return trained.model(torch.device("cpu"))


def codes_of(model: TiedAutoencoder) -> Tensor:
    with torch.inference_mode():
        return model.encode(X)


def answers_of(model: TiedAutoencoder) -> Tensor:
    with torch.inference_mode():
        return model(X)


def test_encode_and_decode(model: TiedAutoencoder) -> None:
    stdout, _ = run("encode", "x.npy")
    codes = np.load(io.BytesIO(stdout), allow_pickle=False)
    np.testing.assert_allclose(codes, codes_of(model), rtol=1e-4, atol=1e-5)
    if model.code_top_k:
        assert ((codes != 0).sum(1) <= model.code_top_k).all() and (codes != 0).any()
    decoded = np.load(io.BytesIO(run("decode", "--float", "-", stdin=stdout)[0]), allow_pickle=False)
    assert decoded.shape == PIXELS.shape
    np.testing.assert_allclose(decoded.reshape(len(X), -1), answers_of(model), atol=1e-4)


def test_score_with_reasons_and_pictures(model: TiedAutoencoder) -> None:
    stdout, _ = run("score", "x.npy", "--threshold", "1", "--explain", "2", "--contact-sheet", "worst.png")
    lines = [json.loads(line) for line in stdout.splitlines()]
    squares = (answers_of(model) - X).square()
    np.testing.assert_allclose([line["squared_error"] for line in lines], squares.sum(1), rtol=1e-4)
    assert all(line["outlier"] for line in lines)
    worst = squares.view(-1, 3, 7 * 6).sum(1).argmax(1)  # regions of images as small as these are pixels
    assert [6 * line["because"][0]["top"] + line["because"][0]["left"] for line in lines] == worst.tolist()
    assert png("worst.png").shape[2] == 3


def test_eval_compare_and_pictures(model: TiedAutoencoder) -> None:
    found = json.loads(run("eval", "net", "--json", "--split", "train")[0])
    assert found["squared_error_per_item"] == pytest.approx(126 * found["mse_per_value"])
    assert found["pca"]["mse_per_value"] > 0
    run("compare", "net", "net", "-o", "rows.png")
    run("reconstruct", "net", "-n", "3", "-o", "pairs.png")
    for name in ("rows.png", "pairs.png"):
        assert png(name).std() > 1


def test_a_long_way_fits_into_a_title() -> None:
    words = ("conv 16", "conv 48", "conv 96", "conv 192", "dense 256")
    deep, flat = build_autoencoder((3, 64, 64), ModelConfig(layers=words)), build_autoencoder(784, ModelConfig())
    assert picture_title("run", deep, "x")[0] == "run: 3x64x64-16x32x32-48x16x16-96x8x8-192x4x4-256 and back"
    assert picture_title("run", flat, "x")[0] == "run: 784-300-150-300-784"


def test_inspect_draws_the_kernels(model: TiedAutoencoder) -> None:
    found = json.loads(run("inspect", "net", "--json", "--features", "kernels.png", "--codes", "codes.png")[0])
    depth, kernel = len(model.layers), model.layers[0].weight.shape[-1]
    assert [layer["kind"] for layer in found["layers"]] == [layer.describe() for layer in (*model.layers, *model.layers[::-1])]
    assert [layer["transpose_of"] is not None for layer in found["layers"]] == [False] * depth + [model.tied] * depth
    assert found["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    factor = 64 // kernel  # pixels of a value, and of the gaps between the six kernels, in two rows of three
    assert png("kernels.png").shape[0] == 76 + factor * (2 * kernel + 3) + 12


def test_export_and_report(model: TiedAutoencoder) -> None:
    assert "onnxruntime" in run("export", "net", "-o", "net.onnx")[1]  # which answers as the model does
    run("report", "net", "-o", "net.html")
    assert Path("net.html").stat().st_size > 10_000


def test_untying(trained: Checkpoint, model: TiedAutoencoder) -> None:
    """An untied training starts from the tied one's error."""
    if not model.tied:
        pytest.skip("is untied already")
    words = f"layers=[{', '.join(layer.describe() for layer in model.layers)}]"
    code = [f"code_activation={model.layers[-1].activation}"]
    code += [] if model.code_top_k is None else [f"code_top_k={model.code_top_k}"]
    train("runs/untied", words, *code, "tied=false", "init_from=runs/net", "epochs=1")
    untied = checkpoints.load(Path("runs/untied/last.safetensors"))
    best = min(report.validation_mse_per_value for report in trained.training.history if report.best)
    assert untied.training.initial_mse == pytest.approx(best, rel=1e-4)
    assert {name for name in untied.weights if name.endswith("decoder_weight")} == {
        f"layers.{number}.decoder_weight" for number in range(len(model.layers))
    }
