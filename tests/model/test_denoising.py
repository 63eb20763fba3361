"""The error under noise: against closed forms, and beside PCA and doing nothing."""

import json

import pytest
import torch
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.config import ModelConfig, TrainingConfig
from tiedae_cli.data.sources.digits import load_digits
from tiedae_cli.model.autoencoder import build_autoencoder
from tiedae_cli.model.denoising import measure_denoising
from tiedae_cli.model.pca import fit
from tiedae_cli.system.random_streams import seeded

CPU = torch.device("cpu")


def measure(**training: object):
    splits = load_digits()
    model = build_autoencoder(64, ModelConfig(hidden_sizes=(8,)), seeded(0))
    return measure_denoising(model, fit(splits.train, 16), splits.test, TrainingConfig(**training), CPU)


def test_denoising_is_not_measured_without_noise():
    assert measure() is None


def test_the_noisy_input_itself_keeps_all_the_noise():
    """Gaussian noise of deviation s has s^2 a pixel; masking a fraction p leaves p times the mean square of the pixels."""
    assert measure(corruption="gaussian", corruption_level=0.5).nothing.mse_per_value == pytest.approx(0.25, rel=0.04)
    pixels = torch.from_numpy(load_digits().test.batch(0, 300))
    masked = measure(corruption="masking", corruption_level=0.4).nothing.mse_per_value
    assert masked == pytest.approx(0.4 * pixels.square().mean().item(), rel=0.06)


def test_pca_removes_the_noise_outside_of_its_components():
    """Of white noise, K of D dimensions stay: s^2 K / D a pixel, beside what the components cannot draw."""
    found = measure(corruption="gaussian", corruption_level=0.5)
    splits = load_digits()
    clean = torch.from_numpy(splits.test.batch(0, 300))
    lost = (fit(splits.train, 16).reconstruct(clean) - clean).square().mean().item()
    assert found.pca.mse_per_value == pytest.approx(0.25 * 16 / 64 + lost, rel=0.06)


@pytest.mark.slow
def test_eval_reports_denoising_and_training_on_noise_helps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    settings = ["training.epochs=25", "training.corruption=gaussian", "training.corruption_level=0.4"]
    trained = runner.invoke(app, ["train", "-q", *(text for value in settings for text in ("--set", value))])
    assert trained.exit_code == 0, trained.output
    found = json.loads(runner.invoke(app, ["eval", "--json", "-q"]).stdout)["denoising"]
    assert (found["corruption"], found["level"]) == ("gaussian", 0.4)
    errors = [found[name]["mse_per_value"] for name in ("model", "pca", "doing_nothing")]
    assert errors == sorted(errors) and errors[0] < 0.8 * errors[1]
    assert "noisy input, under gaussian noise 0.4" in runner.invoke(app, ["eval", "-q"]).stdout
