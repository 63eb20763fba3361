"""The linear path: its gradients, its start at PCA, epoch 0, and everything that a training with it promises."""

import copy
import itertools
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tiedae_cli.config import Config, ModelConfig, TrainingConfig
from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.data.item_set import ItemForm, ItemSet, Splits
from tiedae_cli.data.sources.digits import load_digits
from tiedae_cli.errors import ConfigError, InputError
from tiedae_cli.model import pca
from tiedae_cli.model.autoencoder import TiedAutoencoder, build_autoencoder
from tiedae_cli.model.denoising import measure_denoising
from tiedae_cli.model.inference import error_sum, item_errors
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.system.devices import Place
from tiedae_cli.system.random_streams import seeded
from tiedae_cli.training import trainer as trainer_module
from tiedae_cli.training.initial_weights import initial_weights
from tiedae_cli.training.step.autograd import AutogradGradient
from tiedae_cli.training.step.gradient import Gradient
from tiedae_cli.training.step.graph import CapturedStep
from tiedae_cli.training.step.parameters import FlatParameters
from tiedae_cli.training.step.penalty import CodePenalty
from tiedae_cli.training.step.training_step import TrainingStep
from tiedae_cli.training.suitable_data import data_to_train_on
from tiedae_cli.training.trainer import Trainer
from tiedae_cli.training.training_set import training_set

CPU = Place(torch.device("cpu"))
SHAPE, ITEMS = (2, 6, 5), 7
NETS = {"dense": ("dense 9", "dense 5"), "convolutions": ("conv 4 4 2", "conv 3 3 1", "dense 5"), "one layer": ("dense 5",)}


def make(net: str, dtype: torch.dtype = torch.float64, **options: object) -> TiedAutoencoder:
    """Return a model with a linear path in which no bias and no gate is 0."""
    described = {"layers": NETS[net], "activation": "tanh", "linear_path": "pca", **options}
    model = build_autoencoder(SHAPE, ModelConfig.model_validate(described), seeded(5)).to(dtype)
    with torch.no_grad():
        for vector in (parameter for parameter in model.parameters() if parameter.dim() == 1):
            vector.normal_(std=0.5, generator=torch.Generator().manual_seed(len(vector)))
    return model


def batch(seed: int = 3) -> Tensor:
    return torch.rand(ITEMS, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def flat_gradient(
    engine: type, model: TiedAutoencoder, training: TrainingConfig, corrupted: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return squared error and gradient by name; an earlier batch must not matter."""
    copied = copy.deepcopy(model)
    parameters = FlatParameters(copied, torch.float64)
    penalty = CodePenalty(None, training, 2 * ITEMS) if training.sparsity != "none" else None
    gradient = engine(copied, parameters, ITEMS, training.loss, 2 * ITEMS, penalty, corrupted)
    for seed in (99, 3):
        gradient.target.copy_(batch(seed))
        if corrupted:
            gradient.input.copy_(batch(seed + 1))
        squared_error = gradient.run()
    return squared_error, {name: value.clone() for name, value in parameters.views(parameters.gradient).items()}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("output", ["linear", "clip"])
@pytest.mark.parametrize("net", NETS)
def test_the_hand_written_gradient_matches_autograd(net: str, output: str, tied: bool) -> None:
    model = make(net, output=output, tied=tied)
    for corrupted in (False, True):
        for training in (TrainingConfig(loss="squared_error"), TrainingConfig(loss="mse", sparsity="l1", sparsity_weight=0.1)):
            error, by_hand = flat_gradient(Gradient, model, training, corrupted)
            expected_error, expected = flat_gradient(AutogradGradient, model, training, corrupted)
            torch.testing.assert_close(error, expected_error, rtol=1e-10, atol=1e-12)
            for name, value in expected.items():
                assert value.norm() > 0, name
                torch.testing.assert_close(by_hand[name], value, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("output", ["linear", "clip"])
@pytest.mark.parametrize("net", ["dense", "convolutions"])
def test_the_gradient_matches_finite_differences_of_the_models_own_error(net: str, output: str) -> None:
    """Directional derivatives of each parameter by central differences; of the tied weight over both uses."""
    model, x, step = make(net, output=output), batch(), 1e-6
    _, gradients = flat_gradient(Gradient, model, TrainingConfig(loss="squared_error"), False)
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        errors = []
        with torch.no_grad():
            for sign in (1, -1):
                moved = {**model.state_dict(), name: parameter + sign * step * direction}
                errors.append((torch.func.functional_call(model, moved, (x,)) - x).square().sum() / (2 * ITEMS))
        slope = (errors[0] - errors[1]) / (2 * step)
        torch.testing.assert_close((gradients[name] * direction).sum(), slope, rtol=1e-5, atol=1e-7, msg=name)


def test_the_path_follows_its_equations_and_is_one_tied_parameter() -> None:
    model, x = make("dense", output="clip"), batch()
    assert model.path is not None
    names = [name for name, value in model.named_parameters() if name.startswith("path.") and value.dim() == 2]
    assert names == ["path.layer.weight"]
    c, e, d = model.path.layer.weight.t(), model.path.layer.encoder_bias, model.path.layer.decoder_bias
    encoded = model.encode_layers(x, 2)
    code = x @ c + e + model.path.code_gate * encoded
    torch.testing.assert_close(model.encode(x), code)
    decoded = model.layers[0].decode(model.layers[1].decode(code))
    expected = (code @ c.t() + d + model.path.output_gate * decoded).clamp(0, 1)
    torch.testing.assert_close(model.decode(code), expected)
    assert ((expected == 0) | (expected == 1)).any() and ((expected > 0) & (expected < 1)).any()


@pytest.fixture(scope="module")
def digits() -> Splits:
    return load_digits()


TEXT = """
model: {hidden_sizes: [24, 8], activation: silu, output: clip, linear_path: pca}
training: {epochs: 3, batch_size: 50, learning_rate: 0.003, schedule: one_cycle, l2: 0, loss: squared_error}
"""


def configured(*assignments: str) -> Config:
    return parse_config(TEXT, "path.yaml", assignments)


def reports(trainer: Trainer) -> list[EpochReport]:
    return [report for report in trainer.train() if isinstance(report, EpochReport)]


@pytest.mark.parametrize("sizes", ["[24,8]", "[8]"])
@pytest.mark.parametrize("tied", ["true", "false"])
def test_epoch_0_is_pca_and_later_epochs_are_better(digits: Splits, sizes: str, tied: str) -> None:
    trainer = Trainer(configured(f"model.hidden_sizes={sizes}", f"model.tied={tied}"), digits, CPU)
    fitted = pca.fit(digits.train, 8)
    clipped = error_sum(lambda x: fitted.reconstruct(x).clamp(0, 1), digits.validation, CPU.device).mse_per_value
    done = reports(trainer)
    assert [report.epoch for report in done] == [0, 1, 2, 3]
    start, last = done[0], done[-1]
    assert start.validation_mse_per_value == pytest.approx(clipped, rel=1e-5) and start.best
    assert last.best and last.selection_mse < 0.95 * start.selection_mse
    assert start.values() | {"seconds": 0, "items_per_second": 0, "learning_rate": 0} == start.values()
    x = torch.from_numpy(digits.test.batch(0, 50))
    fresh = Trainer(configured(f"model.hidden_sizes={sizes}", "model.output=linear"), digits, CPU)
    with torch.no_grad():
        torch.testing.assert_close(fresh.model(x), fitted.reconstruct(x), rtol=0, atol=1e-5)


def test_the_first_step_moves_neither_the_code_gate_nor_the_networks(digits: Splits) -> None:
    """On data that are not clipped, the gate's gradient at PCA is rounding, which Adam would normalize to a whole step."""
    trainer = Trainer(configured("model.output=linear"), digits, CPU)
    path = trainer.model.path
    assert path is not None
    trainer.step.begin_epoch(0, torch.arange(len(digits.train)), [0.003] * trainer.step.steps)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.step.run(0)
    unmoved = {name for name, value in trainer.model.state_dict().items() if torch.equal(value, before[name])}
    network = {f"layers.{i}.{name}" for i in (0, 1) for name in ("weight", "encoder_bias", "decoder_bias")}
    assert unmoved == {"path.code_gate", "path.layer.encoder_bias", *network}
    trainer.step.run(1)
    assert path.code_gate.abs().min() > 0 and path.output_gate.abs().max() > 0


@pytest.mark.parametrize("seen", [0, 1, 8, 27, 30])
def test_a_training_resumes_bit_identically(digits: Splits, monkeypatch: pytest.MonkeyPatch, seen: int) -> None:
    """Stopped after a number of reports: before epoch 0 is measured, right after it, and within and between epochs."""
    monkeypatch.setattr(trainer_module, "REPORT_EVERY", -1.0)
    config = configured("training.epochs=2")
    whole = Trainer(config, digits, CPU)
    expected = reports(whole)
    stopped = Trainer(config, digits, CPU)
    for _ in itertools.islice(stopped.train(), seen):
        pass
    resumed = Trainer(config, digits, CPU, resumes=True)
    resumed.restore(copy.deepcopy(stopped.model.state_dict()), stopped.state())
    reports(resumed)
    assert [(report.epoch, report.selection_mse) for report in resumed.history] == [
        (report.epoch, report.selection_mse) for report in expected
    ]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


@pytest.mark.parametrize("optimizer", ["adam", "muon", "soap"])
def test_the_captured_operations_match_plain_steps(digits: Splits, optimizer: str) -> None:
    states = []
    for captures in (False, True):
        config = configured(f"training.optimizer={optimizer}")
        model = Trainer(config, digits, CPU).model
        step = TrainingStep(model, training_set(digits.train, CPU.device), config.training, CPU)
        step.captured = CapturedStep(step, capture=False) if captures else None
        step.begin_epoch(0, torch.arange(len(digits.train)), [0.003] * step.steps)
        for number in range(4):
            step.run(number)
        states.append(copy.deepcopy(model.state_dict()))
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-5)


def test_the_autograd_engine_trains_alike(digits: Splits) -> None:
    by_hand, autograd = (
        reports(Trainer(configured("training.epochs=1", f"training.engine={engine}"), digits, CPU))
        for engine in ("auto", "autograd")
    )
    assert by_hand[0].selection_mse == autograd[0].selection_mse
    assert by_hand[1].selection_mse == pytest.approx(autograd[1].selection_mse, rel=1e-4)


def test_pretraining_trains_the_network_and_leaves_the_path_at_pca(digits: Splits) -> None:
    trainer = Trainer(configured("training.pretraining_epochs=1", "training.epochs=1"), digits, CPU)
    assert trainer.model.path is not None
    start = trainer.model.path.layer.weight.clone()
    drawn = trainer.model.layers[1].weight.clone()
    names = []
    for report in trainer.train():
        if isinstance(report, EpochReport):
            names.append((report.phase, report.epoch))
            if report.phase == "joint" and report.epoch == 0:
                assert torch.equal(trainer.model.path.layer.weight, start)
                assert not torch.equal(trainer.model.layers[1].weight, drawn)
    assert names == [("layer 1", 1), ("layer 2", 1), ("joint", 0), ("joint", 1)]


def test_with_corruption_the_start_is_pca_of_the_clean_items(digits: Splits) -> None:
    noisy = Trainer(configured("training.corruption=gaussian"), digits, CPU)
    clean = Trainer(configured(), digits, CPU)
    assert noisy.model.path is not None and clean.model.path is not None
    assert torch.equal(noisy.model.path.layer.weight, clean.model.path.layer.weight)
    assert reports(noisy)[0].epoch == 0


def test_with_corruption_the_best_epoch_is_the_one_with_the_lowest_error_under_the_noise(digits: Splits) -> None:
    """On clean items no denoising epoch is better than PCA, so a choice by their error would always keep epoch 0."""
    config = configured("training.corruption=gaussian", "training.corruption_level=0.5", "training.epochs=4")
    trainer = Trainer(config, digits, CPU)
    fitted = pca.fit(digits.train, 8)
    done, denoisings = [], []
    for report in trainer.train():
        if isinstance(report, EpochReport):
            done.append(report)
            denoisings.append(measure_denoising(trainer.model, fitted, digits.validation, config.training, CPU.device))
    expected = [found.model.mse_per_value for found in denoisings if found is not None]
    assert [report.noisy_validation_mse_per_value for report in done] == pytest.approx(expected, rel=1e-12)
    assert [report.best for report in done] == [min(expected[:epoch], default=math.inf) > expected[epoch] for epoch in range(5)]
    assert done[-1].best and done[-1].selection_mse > done[0].selection_mse
    assert expected[-1] < 0.95 * expected[0]
    assert "noisy_validation_mse_per_value" in done[0].values()


def test_without_validation_items_the_missing_promise_is_logged(digits: Splits, caplog: pytest.LogCaptureFixture) -> None:
    splits = replace(digits, validation=digits.validation.slice(0, 0))
    with caplog.at_level(logging.INFO):
        done = reports(Trainer(configured("training.epochs=1"), splits, CPU))
    assert done[0].validation_mse_per_value is None and "may be worse than PCA on new data" in caplog.text


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (("model.output=sigmoid",), "model.linear_path: conflicts with model.output: sigmoid"),
        (("model.code_top_k=3",), "model.linear_path: conflicts with model.code_top_k"),
        (("training.sparsity=kl", "model.code_activation=sigmoid"), "model.linear_path: conflicts with training.sparsity: kl"),
        (("model.hidden_sizes=null", "model.layers=[conv 4 4 2]"), "model.linear_path: needs a dense code"),
        (("model.hidden_sizes=[8]", "model.code_activation=relu"), "model.code_activation: a single layer"),
        (("model.hidden_sizes=[8]", "training.pretraining_epochs=1"), "training.pretraining_epochs: there is no network"),
    ],
)
def test_contradictions_are_reported_by_name(assignments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        configured(*assignments)


def test_without_the_keys_there_is_no_path_and_no_epoch_0(digits: Splits) -> None:
    done = reports(Trainer(configured("model.linear_path=none", "training.epochs=1"), digits, CPU))
    assert [report.epoch for report in done] == [1]
    assert build_autoencoder(64, configured("model.linear_path=none").model).path is None


def rows(count: int, values: int = 12, seed: int = 0) -> ItemSet:
    """Return random rows of a linear model of 3 factors, on which PCA is the best that can be done."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(8).normal(size=(3, values))
    data = generator.normal(size=(count, 3)) @ mixing + 0.3 * generator.normal(size=(count, values))
    return ItemSet(data.astype(np.float32).reshape(count, 1, 1, values), None, ItemForm((1, 1, values), kind="vectors"))


def few(train: int, validation: int = 30) -> Splits:
    return Splits(train=rows(train), validation=rows(validation, seed=1), test=rows(validation, seed=2), source="rows")


ROWS = ("model.output=linear", "model.hidden_sizes=[16,3]", "training.batch_size=20", "training.epochs=6")


def test_with_few_items_epoch_0_is_left_only_for_a_significant_improvement(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = few(120)
    trainer = Trainer(configured(*ROWS), splits, CPU)
    start = item_errors(trainer.model, splits.validation, CPU.device)
    kept = 0
    for report in trainer.train():
        if isinstance(report, EpochReport) and report.epoch:
            gains = start - item_errors(trainer.model, splits.validation, CPU.device)
            significant = bool(gains.mean() > gains.std() / len(gains) ** 0.5)
            if kept == 0:
                assert report.best == significant
            kept += report.best
    plain = Trainer(configured(*ROWS), few(500), CPU)
    monkeypatch.setattr(Trainer, "_improves_significantly", lambda _: pytest.fail("asked with 500 training items"))
    assert len(reports(plain)) == 7


def test_the_rule_for_few_items_survives_a_resume() -> None:
    splits, config = few(120), configured(*ROWS)
    whole = Trainer(config, splits, CPU)
    expected = reports(whole)
    stopped = Trainer(config, splits, CPU)
    stream = stopped.train()
    while stopped.epoch < 2:
        next(stream)
    resumed = Trainer(config, splits, CPU, resumes=True)
    resumed.restore(copy.deepcopy(stopped.model.state_dict()), stopped.state())
    reports(resumed)
    assert [(report.best, report.selection_mse) for report in resumed.history] == [
        (report.best, report.selection_mse) for report in expected
    ]


def test_numbers_beyond_the_components_start_at_0_and_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """16 training rows have 16 components, which reconstruct them exactly."""
    np.save(tmp_path / "rows.npy", rows(20, values=40).values.reshape(20, 40))
    config = configured("model.hidden_sizes=[32,18]", "model.output=linear", f"data.dataset={tmp_path / 'rows.npy'}")
    splits = data_to_train_on(config)
    assert (
        "16 training items of 40 values have only 16 principal components, so 2 of the code's 18 numbers start at 0"
        in caplog.text
    )
    path = Trainer(config, splits, CPU).model.path
    assert path is not None and path.layer.weight.norm(dim=1).tolist() == pytest.approx([1.0] * 16 + [0.0] * 2, abs=1e-6)


def test_a_code_larger_than_the_layer_before_it_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    data_to_train_on(configured("model.hidden_sizes=[64,8]", "model.code_size=65"))
    assert "the code (65 numbers) is larger than the layer before it (64 units), which limits it" in caplog.text


def test_clip_is_refused_for_values_without_a_range(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", rows(50).values.reshape(50, 12))
    with pytest.raises(ConfigError, match=r"model.output: clip stays in \[0, 1\]"):
        data_to_train_on(configured(f"data.dataset={tmp_path / 'rows.npy'}"))


def test_a_model_without_a_path_cannot_start_one_with_it(digits: Splits, tmp_path: Path) -> None:
    config = configured("model.linear_path=none", "training.epochs=1")
    trainer = Trainer(config, digits, CPU)
    reports(trainer)
    Checkpoint(config, digits.form, trainer.model.state_dict(), trainer.state(), "plain").save(tmp_path / "plain.safetensors")
    with pytest.raises(InputError, match="is a model 64-24-8 .*, not 64-24-8 .* with a linear path"):
        initial_weights(configured(f"training.init_from={tmp_path / 'plain.safetensors'}"), digits.form)
