"""Two processes train as one: equal weights for equal global batches, every item counted once, resuming, a lost process."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tiedae_cli.data.load_data import load_splits
from tiedae_cli.model.autoencoder import build_autoencoder
from tiedae_cli.model.inference import error_sum
from tiedae_cli.runs import checkpoint

pytestmark = pytest.mark.slow

LIMIT = 120  # seconds after which a process that hangs fails the test


def launch(folder: Path, processes: int, *arguments: str, folders: tuple[str, ...] = ("", "")) -> list[subprocess.Popen]:
    """Start the processes of one training, as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        if processes > 1:
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, "-m", "tiedae_cli", "train", "--device", "cpu", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        children.append(subprocess.Popen(command, cwd=folder / folders[rank], env=environment, **pipes))
    return children


def finish(children: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    results = []
    for child in children:
        stdout, stderr = child.communicate(timeout=LIMIT)
        results.append((child.returncode, stdout, stderr))
    return results


def settings(**values: object) -> list[str]:
    return [text for key, value in values.items() for text in ("--set", f"training.{key}={value}")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Runs ``one`` (a single process), ``two`` (two), both of two epochs of uneven shares, with everything random switched on."""
    folder = tmp_path_factory.mktemp("distributed")
    arguments = settings(epochs=2, batch_size=61, corruption="gaussian", shift=1, flip="true", sparsity="l1", gradient_clip=0.5)
    outputs = [finish(launch(folder, n, "--json", "--run-dir", name, *arguments)) for n, name in ((1, "one"), (2, "two"))]
    for results in outputs:
        for code, _, stderr in results:
            assert code == 0, stderr
    assert outputs[1][1][1] == "", "only the leading process prints"
    assert len(outputs[1][0][1].splitlines()) == 3
    return folder


def test_two_processes_equal_one(runs):
    one, two = (checkpoint.load(runs / name / "last.safetensors") for name in ("one", "two"))
    for name, weight in one.weights.items():
        torch.testing.assert_close(two.weights[name], weight, rtol=1e-3, atol=1e-5, msg=name)


def test_two_processes_finish_the_model_of_one(runs):
    """PCA, calibration and reference statistics are of all items, though each process holds a share; so is the data's identity."""
    one, two = (checkpoint.load(runs / name / "best.safetensors") for name in ("one", "two"))
    assert one.finished is not None and two.finished is not None
    tensors = two.finished.tensors()
    assert tensors.keys() == one.finished.tensors().keys()
    for name, value in one.finished.tensors().items():
        torch.testing.assert_close(tensors[name], value, rtol=1e-3, atol=1e-5, msg=name)
    assert two.training.data == one.training.data


def test_a_file_that_differs_on_another_machine_is_refused(tmp_path):
    """Two folders in place of two machines; one value of 40,000 differs, and it is not in the sample of a mapped file."""
    values = np.random.default_rng(0).normal(size=(5000, 8)).astype(np.float32)
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x.npy", values)
        values[1234, 5] += 1e-4
    results = finish(launch(tmp_path, 2, "x.npy", "--run-dir", "run", "-q", folders=("here", "there")))
    assert [code for code, _, _ in results] == [2, 2], results
    expected = "x.npy: the data of process 1 differs from that of process 0: as many items, but their values differ"
    assert all(expected in stderr for _, _, stderr in results)
    assert not (tmp_path / "here" / "run").exists()


def test_two_processes_equal_one_on_convolutions(tmp_path):
    """Includes sums over the whole batch: a penalty on the mean code, and Muon's matrices of kernels."""
    model = ["layers=[conv 6 4 2, conv 8 3 2, dense 6]", "code_activation=sigmoid", "activation=silu", "sparsity=kl"]
    training = settings(epochs=1, batch_size=60, optimizer="muon", learning_rate=0.003, pretraining_epochs=1, flip="true")
    for processes, name in ((1, "one"), (2, "two")):
        for code, _, stderr in finish(launch(tmp_path, processes, "digits", *model, "--run-dir", name, "-q", *training)):
            assert code == 0, stderr
    one, two = (checkpoint.load(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    for name, weight in one.weights.items():
        torch.testing.assert_close(two.weights[name], weight, rtol=1e-2, atol=1e-4, msg=name)


@pytest.mark.parametrize("sizes", ["[16,6]", "6"])
def test_two_processes_equal_one_with_a_linear_path(tmp_path, sizes):
    """The leading process fits PCA for both, and epoch 0 is measured by both."""
    model = [f"hidden_sizes={sizes}", "activation=silu", "output=clip", "linear_path=pca", "loss=squared_error", "l2=0"]
    training = settings(epochs=2, batch_size=60, learning_rate=0.003)
    for processes, name in ((1, "one"), (2, "two")):
        for code, _, stderr in finish(launch(tmp_path, processes, "digits", *model, "--run-dir", name, "-q", *training)):
            assert code == 0, stderr
    one, two = (checkpoint.load(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    for name, weight in one.weights.items():
        torch.testing.assert_close(two.weights[name], weight, rtol=1e-3, atol=1e-4, msg=name)
    for alone, together in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert together["epoch"] == alone["epoch"]
        assert together["validation_mse_per_value"] == pytest.approx(alone["validation_mse_per_value"], rel=1e-4)


def test_errors_count_every_image_once(runs):
    """The validation split has 200 images, which two processes share; the training errors are sums over both."""
    for one, two in zip(*(metrics(runs / name) for name in ("one", "two")), strict=True):
        for key in ("train_mse_per_value", "validation_mse_per_value"):
            assert two[key] == pytest.approx(one[key], rel=1e-4)


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("optimizer", ["muon", "soap"])
def test_optimizers_of_matrices_move_both_processes_alike(optimizer, tmp_path):
    """Each process takes bases and polar factors of the summed gradient; were they to differ, so would the weights that each holds."""
    arguments = settings(optimizer=optimizer, epochs=2, batch_size=60, learning_rate=0.003, precision="bfloat16")
    for processes, name in ((1, "one"), (2, "two")):
        for code, _, stderr in finish(launch(tmp_path, processes, "-q", "--run-dir", name, *arguments)):
            assert code == 0, stderr
    one, two = (metrics(tmp_path / name)[-1]["validation_mse_per_value"] for name in ("one", "two"))
    assert two == pytest.approx(one, rel=0.02)
    saved = checkpoint.load(tmp_path / "two" / "last.safetensors")
    alone = build_autoencoder(saved.form.shape, saved.config.model)
    alone.load_state_dict(saved.weights)
    splits = load_splits(saved.config.data)
    assert two == pytest.approx(error_sum(alone, splits.validation, torch.device("cpu")).mse_per_value, rel=1e-6)


def test_two_processes_resume_together(runs):
    results = finish(launch(runs, 2, "--resume", "two", *settings(epochs=3)))
    assert [code for code, _, _ in results] == [0, 0], results
    assert [line["epoch"] for line in metrics(runs / "two")] == [1, 2, 3]


def test_a_dead_process_ends_the_others_with_a_message(runs):
    children = launch(runs, 2, "--run-dir", "dead", "--json", *settings(epochs=100_000))
    assert children[0].stdout.readline()  # an epoch is done: both are training
    children[1].send_signal(signal.SIGKILL)
    began = time.monotonic()
    code, _, stderr = finish(children)[0]
    assert code == 1 and "another process of this training ended" in stderr and "Traceback" not in stderr
    assert time.monotonic() - began < LIMIT
    assert checkpoint.load(runs / "dead" / "last.safetensors").training.epoch >= 1


def test_sigterm_to_all_saves_once(runs):
    children = launch(runs, 2, "--run-dir", "stopped", "--json", *settings(epochs=100_000))
    assert children[0].stdout.readline()
    for child in children:
        child.terminate()
    results = finish(children)
    assert [code for code, _, _ in results] == [143, 143], results
    assert "continue with" in results[0][2]
    assert checkpoint.load(runs / "stopped" / "last.safetensors").training.epoch >= 1
