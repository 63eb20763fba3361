"""What a program that imports or calls the package keeps: its logging, signal handlers, threads, random numbers and torch's settings."""

import logging
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiedae
import tiedae_cli
from tiedae_cli.system.interruption import SAVING, STOPPING

SMALL: dict[str, Any] = {"epochs": 1, "hidden_sizes": [4]}


def state() -> dict[str, object]:
    """Return what belongs to the program and not to a library that it calls."""
    loggers = [logging.getLogger(), logging.getLogger("tiedae_cli")]
    return {
        "handlers": [list(logger.handlers) for logger in loggers],
        "levels": [(logger.level, logger.disabled, logger.propagate) for logger in loggers],
        "disabled": logging.root.manager.disable,
        "signals": [signal.getsignal(number) for number in (*STOPPING, *SAVING)],
        "hooks": (sys.excepthook, sys.unraisablehook),
        "threads": threading.active_count(),
        "torch threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch settings": (torch.get_float32_matmul_precision(), torch.backends.cudnn.deterministic, torch.is_grad_enabled()),
        "torch seed": torch.get_rng_state().tolist(),
        "numpy seed": str(np.random.get_state()),
        "seed": random.getstate(),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
    }


@pytest.mark.slow
@pytest.mark.parametrize("quiet", [True, False])
def test_a_training_leaves_nothing_behind(quiet: bool, empty_folder: Path) -> None:
    train = tiedae.train  # rich draws a random number when it is first imported
    before = state()
    run = train("digits", quiet=quiet, **SMALL)
    assert state() == before
    model = tiedae.load(run, device="cpu")
    model.score(np.zeros((2, 8, 8), np.uint8))
    assert state() == before


def test_a_training_that_fails_leaves_nothing_behind(empty_folder: Path) -> None:
    before = state()
    with pytest.raises(tiedae_cli.errors.DataError):
        tiedae.train({"data": {"dataset": "nothing.npy"}}, **SMALL)
    assert state() == before


@pytest.mark.slow
def test_trackers_leave_nothing_behind(empty_folder: Path) -> None:
    pytest.importorskip("tensorboard")
    tiedae.train("digits", quiet=True, trackers=["tensorboard"], **SMALL)  # TensorBoard's own imports
    before = state()
    tiedae.train("digits", quiet=True, trackers=["tensorboard"], **SMALL)
    assert state() == before


@pytest.mark.slow
def test_quiet_prints_nothing_and_whoever_listens_hears_all(
    empty_folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tiedae.train("digits", quiet=True, **SMALL)
    assert capfd.readouterr() == ("", "")
    assert any(line.startswith("best epoch 1: MSE ") for line in caplog.messages)
    tiedae.train("digits", **SMALL)
    out, err = capfd.readouterr()
    assert out == "" and "best epoch 1: MSE " in err and "epoch 1/1" in err


def test_both_names_hand_on_the_same_objects_and_list_them() -> None:
    assert tiedae.train is tiedae_cli.train and tiedae.load is tiedae_cli.load and tiedae.Model is tiedae_cli.Model
    for package in (tiedae, tiedae_cli):
        assert {"Model", "load", "train", "__version__"} <= set(dir(package)) and set(package.__all__) <= set(dir(package))
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            package.nothing  # noqa: B018


@pytest.mark.slow
def test_the_import_is_fast_and_leaves_the_process_as_it_was() -> None:
    """It waits for no torch, and only the loggers of the package are new."""
    code = """
import logging, signal, sys, threading
numbers = [signal.SIGINT, signal.SIGTERM]
def state():
    return list(logging.root.handlers), logging.root.level, [signal.getsignal(n) for n in numbers], threading.active_count()
before = state()
import tiedae
assert not {"torch", "numpy", "matplotlib", "rich"} & sys.modules.keys()
assert state() == before and logging.getLogger("tiedae_cli").handlers == []
assert "train" in dir(tiedae)
tiedae.train
assert "torch" in sys.modules and state() == before and logging.getLogger("tiedae_cli").handlers == []
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
