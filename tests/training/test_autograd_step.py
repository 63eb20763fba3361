"""The autograd step and the hand-written one agree; what has no derivative by hand, or has lost it, is trained by autograd."""

import copy
import itertools
import logging
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tiedae_cli.config import Activation as ActivationName
from tiedae_cli.config import Config, Loss, ModelConfig, Sparsity, TrainingConfig
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.model import activations, products
from tiedae_cli.model.activations import ACTIVATIONS, ActivationKind
from tiedae_cli.model.autoencoder import TiedAutoencoder, build_autoencoder
from tiedae_cli.model.layers import Dense, Layer
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.system.devices import Place
from tiedae_cli.system.random_streams import seeded
from tiedae_cli.training.step.autograd import AutogradGradient
from tiedae_cli.training.step.gradient import Gradient, missing_derivative
from tiedae_cli.training.step.losses import LOSSES
from tiedae_cli.training.step.parameters import FlatParameters
from tiedae_cli.training.step.penalty import PENALTIES, CodePenalty
from tiedae_cli.training.trainer import Trainer

CPU = Place(torch.device("cpu"))
ITEMS, SHAPE = 6, (2, 6, 5)
NETS = {"dense": ("dense 9", "dense 5"), "convolutions": ("conv 4 4 2", "conv 3 3 1", "dense 5"), "one layer": ("conv 3 4 2",)}


def make(dtype: torch.dtype = torch.float64, **options: object) -> TiedAutoencoder:
    """Return a model whose biases are not zero."""
    model = build_autoencoder(SHAPE, ModelConfig.model_validate({"layers": NETS["dense"], **options}), seeded(5)).to(dtype)
    with torch.no_grad():
        for bias in (parameter for parameter in model.parameters() if parameter.dim() == 1):
            bias.normal_(std=0.5, generator=torch.Generator().manual_seed(len(bias)))
    return model


def batch(seed: int = 3) -> Tensor:
    return torch.rand(ITEMS, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gradients(
    model: TiedAutoencoder,
    training: TrainingConfig,
    dtype: torch.dtype = torch.float64,
    corrupted: bool = False,
    sum_over_processes: Callable[[Tensor], None] | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Return (squared error, flat gradient) by hand and by autograd; what an earlier batch left must not matter."""
    results = []
    for engine in (Gradient, AutogradGradient):
        copied = copy.deepcopy(model)
        parameters = FlatParameters(copied, dtype)
        penalty = CodePenalty(model.code_top_k, training, 2 * ITEMS, sum_over_processes)
        weight = training.cross_entropy_weight
        gradient = engine(copied, parameters, ITEMS, training.loss, 2 * ITEMS, penalty, corrupted, weight)
        for seed in (99, 3):
            gradient.target.copy_(batch(seed))
            if corrupted:
                gradient.input.copy_(batch(seed + 1))
            squared_error = gradient.run()
        results.append((squared_error, parameters.gradient))
    return results


def assert_agree(results: list[tuple[Tensor, Tensor]], rtol: float = 1e-9, atol: float = 1e-11) -> None:
    (error, by_hand), (expected_error, expected) = results
    assert expected.norm() > 0
    torch.testing.assert_close(error, expected_error, rtol=rtol, atol=atol)
    torch.testing.assert_close(by_hand, expected, rtol=rtol, atol=atol)


LOSS_OPTIONS: list[dict[str, Any]] = [
    {"loss": "mse"},
    {"loss": "squared_error"},
    {"loss": "cross_entropy", "output": "sigmoid"},
    {"loss": "mse", "output": "sigmoid", "cross_entropy_weight": 0.3},
    {"loss": "squared_error", "output": "sigmoid", "cross_entropy_weight": 0.3},
]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("words", NETS.values(), ids=NETS)
def test_both_engines_give_the_same_gradient_for_every_loss(words: tuple[str, ...], tied: bool) -> None:
    for options, corrupted in itertools.product(LOSS_OPTIONS, (False, True)):
        training = TrainingConfig(**{key: value for key, value in options.items() if key != "output"})
        model = make(layers=words, tied=tied, activation="silu", output=options.get("output", "linear"))
        assert_agree(gradients(model, training, corrupted=corrupted))


@pytest.mark.parametrize("activation", get_args(ActivationName))
def test_both_engines_give_the_same_gradient_for_every_activation(activation: str) -> None:
    assert_agree(gradients(make(layers=NETS["convolutions"], activation=activation), TrainingConfig()))


@pytest.mark.parametrize("words", NETS.values(), ids=NETS)
@pytest.mark.parametrize("top_k", [None, 2])
@pytest.mark.parametrize("sparsity", get_args(Sparsity))
def test_both_engines_give_the_same_gradient_for_every_penalty(
    sparsity: Sparsity, top_k: int | None, words: tuple[str, ...]
) -> None:
    """With top-k some units of these batches are never active: their mean is 0, where the divergence is infinite."""
    model = make(layers=words, activation="relu", code_activation="sigmoid", code_top_k=top_k)
    training = TrainingConfig(sparsity=sparsity, sparsity_weight=0.4, sparsity_target=0.1, loss="squared_error")
    assert_agree(gradients(model, training, corrupted=True))


def test_both_engines_see_the_other_processes_in_a_units_mean() -> None:
    model = make(activation="relu", code_activation="sigmoid")
    training = TrainingConfig(sparsity="kl", sparsity_weight=0.4, loss="squared_error")

    def add_others(total: Tensor) -> None:
        total.add_(torch.linspace(0.1, 5, 5))

    results = gradients(model, training, sum_over_processes=add_others)
    assert_agree(results)
    assert not torch.allclose(results[1][1], gradients(model, training)[1][1])


def test_engines_differ_by_rounding_in_bfloat16() -> None:
    model = make(torch.float32, activation="silu", output="sigmoid")
    training = TrainingConfig(loss="squared_error", cross_entropy_weight=0.1, sparsity="l1")
    _, (_, exact) = gradients(model, training, torch.float32)
    (hand_error, by_hand), (error, by_autograd) = gradients(model, training, torch.bfloat16)
    assert error.dtype == by_autograd.dtype == torch.float32
    assert 0 < (by_autograd - exact).norm() < 0.02 * exact.norm()
    assert (by_autograd - by_hand).norm() < 0.03 * exact.norm()
    torch.testing.assert_close(error, hand_error, rtol=0.02, atol=0)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_both_engines_move_a_pixel_stuck_at_one(loss: Loss) -> None:
    """Autograd sees the pre-activation: the derivative of a saturated sigmoid is 0 in floating point."""
    model = make(torch.float32, output="sigmoid")
    with torch.no_grad():
        model.layers[0].decoder_bias[4] = 60.0
    weight = 0.0 if loss == "cross_entropy" else 0.01
    assert_agree(gradients(model, TrainingConfig(loss=loss, cross_entropy_weight=weight), torch.float32), 1e-4, 1e-6)


def test_the_lists_hold_what_the_schema_names() -> None:
    assert set(LOSSES) == set(get_args(Loss))
    assert set(PENALTIES) == set(get_args(Sparsity)) - {"none"}


# Trainings


def config(**training: object) -> Config:
    fields = {"epochs": 3, "batch_size": 100, "learning_rate": 0.005, "l2": 0.0, **training}
    return Config.model_validate({"model": {"hidden_sizes": (24, 8), "activation": "silu"}, "training": fields})


def errors(config: Config) -> list[float]:
    """Return the training error of each epoch."""
    trainer = Trainer(config, load_splits(config.data), CPU)
    return [report.train_mse_per_value for report in trainer.train() if isinstance(report, EpochReport)]


def engine_of(config: Config) -> type:
    return type(Trainer(config, load_splits(config.data), CPU).step.gradient)


def test_a_training_by_autograd_matches_the_hand_written_one() -> None:
    variant = {"corruption": "gaussian", "gradient_clip": 1.0, "pretraining_epochs": 1, "sparsity": "l1"}
    by_hand, by_autograd = errors(config(**variant)), errors(config(**variant, engine="autograd"))
    assert by_hand == pytest.approx(by_autograd, rel=1e-3)
    assert engine_of(config()) is Gradient and engine_of(config(engine="autograd")) is AutogradGradient


class ByProducts(Dense):
    """A dense layer that has lost the derivative of its weight."""

    weight_gradient = Layer.weight_gradient


def without_derivative(kind: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Return a config that needs autograd, because a row of a list, or a layer, has no derivative by hand."""
    if kind == "activation mish":
        monkeypatch.setitem(cast(dict[str, object], ACTIVATIONS), "mish", ActivationKind(F.mish, ()))
        return config().model_copy(update={"model": config().model.model_copy(update={"activation": "mish"})})
    if kind == "layer dense 24":
        monkeypatch.setattr("tiedae_cli.model.layers.kinds.Dense", ByProducts)
        return config()
    key, _, name = kind.partition(" ")
    if key == "loss":
        huber = replace(
            LOSSES["squared_error"], function=lambda y, z, x: F.huber_loss(y, x, reduction="none").sum(1), slope=None
        )
        monkeypatch.setitem(cast(dict[str, object], LOSSES), name, huber)
        return config().model_copy(update={"training": config().training.model_copy(update={"loss": name})})
    squares = replace(PENALTIES["l1"], function=lambda code, penalty: code.square().sum() / penalty.items, gradient=None)
    monkeypatch.setitem(cast(dict[str, object], PENALTIES), name, squares)
    return config().model_copy(update={"training": config().training.model_copy(update={"sparsity": name})})


@pytest.mark.parametrize("kind", ["activation mish", "layer dense 24", "loss huber", "penalty squares"])
def test_models_without_a_hand_written_derivative_use_autograd_with_one_log_line(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    new = without_derivative(kind, monkeypatch)
    with caplog.at_level(logging.INFO, "tiedae_cli.training.trainer"):
        first, *_, last = errors(new)
    assert last < 0.9 * first
    assert caplog.messages == [f"training.engine: autograd, because the {kind} has no hand-written derivative that works here"]
    assert engine_of(new) is AutogradGradient


def test_everything_in_the_lists_has_a_hand_written_derivative() -> None:
    for name in get_args(ActivationName):
        assert ACTIVATIONS[name].by_hand, name
    for loss, sparsity in itertools.product(get_args(Loss), get_args(Sparsity)):
        assert missing_derivative(make(layers=NETS["convolutions"]), TrainingConfig(loss=loss, sparsity=sparsity)) is None


@pytest.mark.parametrize("broken", ["removed", "with other arguments", "with another result"])
def test_a_private_operator_that_is_gone_or_changed_is_replaced_by_autograd(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a later torch might leave it: ``aten.silu_backward``, which the derivative of silu calls."""

    def takes_nothing() -> None: ...

    def gives_zeros(*_: Tensor, grad_input: Tensor) -> Tensor:
        return grad_input.zero_()

    operators = {
        "removed": SimpleNamespace(silu=torch.ops.aten.silu),
        "with other arguments": SimpleNamespace(
            silu=torch.ops.aten.silu, silu_backward=SimpleNamespace(grad_input=takes_nothing)
        ),
        "with another result": SimpleNamespace(silu=torch.ops.aten.silu, silu_backward=SimpleNamespace(grad_input=gives_zeros)),
    }
    expected = errors(config())
    monkeypatch.setattr(activations, "aten", operators[broken])
    monkeypatch.setitem(cast(dict[str, object], ACTIVATIONS), "silu", replace(ACTIVATIONS["silu"]))  # not checked yet
    assert engine_of(config()) is AutogradGradient
    assert errors(config()) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("gone", ["fused adam", "onednn", "aten", "fused adam, onednn, aten"])
@pytest.mark.parametrize("layers", [("dense 400", "dense 8"), ("conv 4 4 2", "dense 8")], ids=["dense", "convolutions"])
def test_a_torch_without_private_operators_trains_as_well(
    layers: tuple[str, ...], gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"layers": layers, "activation": "silu"}
    config = Config.model_validate({"model": model, "training": {"epochs": 1, "learning_rate": 0.003, "l2": 0.01}})
    expected = errors(config)
    if "fused adam" in gone:
        monkeypatch.delattr(torch, "_fused_adam_")
    if "onednn" in gone:
        monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    if "aten" in gone:
        monkeypatch.setattr(activations, "aten", SimpleNamespace())
        for name, kind in ACTIVATIONS.items():
            monkeypatch.setitem(cast(dict[str, object], ACTIVATIONS), name, replace(kind))  # not checked yet
    products.prefers_onednn.cache_clear()
    try:
        assert engine_of(config) is (AutogradGradient if "aten" in gone else Gradient)
        assert errors(config) == pytest.approx(expected, rel=1e-3)
    finally:
        products.prefers_onednn.cache_clear()
