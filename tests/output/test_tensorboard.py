"""The TensorBoard tracker, read back with TensorBoard's reader: metrics, pictures and codes."""

import errno
import io
import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Tiedae
from PIL import Image

from tiedae_cli.api.trained_model import load

pytest.importorskip("tensorboard")
SMALL = (
    "--device",
    "cpu",
    "-q",
    "--set",
    "model.hidden_sizes=[8, 3]",
    "--set",
    "output.trackers=tensorboard",
    "--set",
    "output.images=4",
)


def train(tiedae: Tiedae, *words: str, code: int = 0) -> str:
    result = tiedae("train", *words)
    assert result.code == code, result.err
    return result.err


def events(folder: str) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(folder, size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    return found


@pytest.mark.slow
def test_scalars_equal_the_metrics_file_even_after_resuming(tiedae: Tiedae) -> None:
    train(tiedae, *SMALL, "--set", "training.epochs=2", "--run-dir", "run")
    train(tiedae, "--device", "cpu", "-q", "--resume", "run", "--set", "training.epochs=3")
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    found = events("run/tensorboard")
    names = ["train_mse_per_value", "validation_mse_per_value", "learning_rate", "items_per_second"]
    assert sorted(found.Tags()["scalars"]) == sorted(names) and len(lines) == 3
    for name in names:
        written = [(event.step, event.value) for event in found.Scalars(name)]
        assert written == [(line["epoch"], float(np.float32(line[name]))) for line in lines]


@pytest.mark.slow
def test_pictures_show_originals_above_reconstructions(tiedae: Tiedae) -> None:
    train(tiedae, *SMALL, "--set", "training.epochs=1", "--run-dir", "run")
    found = events("run/tensorboard")
    (event,) = found.Images("originals over reconstructions")
    picture = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)).convert("L")) / 255
    model = load("run/last.safetensors", device="cpu")
    items = np.concatenate(list(np.stack([_test_digits()[i] for i in range(4)])), 1)
    assert picture.shape == (16, 32) and event.step == 1
    np.testing.assert_allclose(picture[:8], items / 255, atol=1 / 250)
    rebuilt = np.concatenate(list(np.clip(np.asarray(model.reconstruct(_test_digits()[:4])).reshape(4, 8, 8) / 255, 0, 1)), 1)
    np.testing.assert_allclose(picture[8:], rebuilt, atol=1 / 200)


@pytest.mark.slow
def test_projector_codes_equal_those_of_encode_and_have_labels(tiedae: Tiedae) -> None:
    train(tiedae, *SMALL, "--set", "training.epochs=1", "--run-dir", "run")
    folder = Path("run/tensorboard/00001/code")
    codes = np.loadtxt(folder / "tensors.tsv", delimiter="\t")
    assert codes.shape == (len(_test_digits()), 3)
    np.testing.assert_allclose(codes, load("run", device="cpu").encode(_test_digits()), rtol=1e-4, atol=1e-5)
    assert set((folder / "metadata.tsv").read_text().split()) == set("0123456789")
    assert (folder / "sprite.png").exists()


def test_a_missing_package_is_reported_with_its_install_command_before_a_run_is_created(
    monkeypatch: pytest.MonkeyPatch,
    tiedae: Tiedae,
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert "pip install 'tiedae[tensorboard]'" in train(tiedae, *SMALL, "--run-dir", "run", code=2)
    assert not Path("run").exists()


@pytest.mark.slow
def test_vectors_have_scalars_and_codes_but_no_pictures(tiedae: Tiedae) -> None:
    np.save("x.npy", np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32))
    train(
        tiedae,
        *SMALL,
        "--set",
        "data.dataset=x.npy",
        "--set",
        "model.output=linear",
        "--set",
        "training.epochs=1",
        "--set",
        "training.batch_size=20",
        "--run-dir",
        "run",
    )
    found = events("run/tensorboard").Tags()
    assert found["images"] == [] and "train_mse_per_value" in found["scalars"]
    assert not list(Path("run").rglob("sprite.png")) and list(Path("run").rglob("tensors.tsv"))


def _test_digits() -> np.ndarray:
    from tiedae_cli.config import Config
    from tiedae_cli.data.load_data import load_splits

    test = load_splits(Config().data).test
    assert test is not None
    values = torch.from_numpy(test.select(np.arange(len(test))).values)
    return values.reshape(-1, 8, 8).numpy()


@pytest.mark.slow
def test_a_thread_that_cannot_write_is_one_line_and_no_traceback(
    tiedae: Tiedae, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    writer = pytest.importorskip("tensorboard.summary.writer.record_writer").RecordWriter
    before = threading.excepthook

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "write", full)
    result = tiedae("train", "-q", "--set", "training.epochs=1", "--set", "output.trackers=[tensorboard]")
    assert result.code == 1 and "tensorboard: cannot be written: No space left on device" in result.err
    assert "Traceback" not in result.err + capfd.readouterr().err and threading.excepthook is before
