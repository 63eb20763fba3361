"""Convolutions in the hand-written step: the gradient is autograd's, for every activation, loss, size and variant."""

import copy
import itertools
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tiedae_cli.config import Activation, Config, Loss, ModelConfig, TrainingConfig
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.model.autoencoder import TiedAutoencoder, build_autoencoder
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.system.devices import Place
from tiedae_cli.system.random_streams import seeded
from tiedae_cli.training.step.gradient import Gradient
from tiedae_cli.training.step.parameters import FlatParameters
from tiedae_cli.training.step.penalty import CodePenalty
from tiedae_cli.training.trainer import Trainer

ITEMS = 5
SHAPES = [(1, 8, 8), (3, 7, 5)]
WORDS = {
    "convolutions and dense": ("conv 4 4 2", "conv 5 3 1", "dense 3"),
    "one convolution": ("conv 4 5 3",),
    "a code of convolutions": ("conv 4 4 2", "conv 5"),
    "two dense on top": ("conv 4 3 2", "dense 6", "dense 3"),
}


def make(shape: tuple[int, int, int], **options: object) -> TiedAutoencoder:
    model = build_autoencoder(shape, ModelConfig.model_validate(options), seeded(5)).double()
    with torch.no_grad():
        for bias in (parameter for parameter in model.parameters() if parameter.dim() == 1):
            bias.normal_(std=0.5, generator=torch.Generator().manual_seed(len(bias)))
    return model


def batch(size: int, seed: int = 3, items: int = ITEMS) -> Tensor:
    return torch.rand(items, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_hand(
    model: TiedAutoencoder, x: Tensor, noisy: Tensor, loss: Loss, penalty: CodePenalty | None = None
) -> tuple[Tensor, Tensor]:
    """Return the squared error and the flat gradient of a copy of the model; what an earlier batch left must not matter."""
    model = copy.deepcopy(model)
    parameters = FlatParameters(model, torch.float64)
    gradient = Gradient(model, parameters, len(x), loss, len(x), penalty, corrupted=noisy is not x)
    for target, input in ((batch(x.shape[1], 99, len(x)),) * 2, (x, noisy)):
        gradient.target.copy_(target)
        gradient.input.copy_(input)
        squared_error = gradient.run()
    return squared_error, parameters.gradient


def autograd(model: TiedAutoencoder, loss: Tensor) -> Tensor:
    loss.backward()
    tensors = sorted(model.parameters(), key=lambda parameter: parameter.dim() == 1)
    return torch.cat([tensor.grad.reshape(-1) for tensor in tensors if tensor.grad is not None])


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
@pytest.mark.parametrize("activation", get_args(Activation))
def test_gradient_matches_autograd(activation: str, words: tuple[str, ...], tied: bool) -> None:
    losses = [("squared_error", "linear"), ("mse", "sigmoid"), ("cross_entropy", "sigmoid")]
    for shape, items, (loss, output) in itertools.product(SHAPES, (ITEMS, 1), losses):
        model = make(shape, layers=words, activation=activation, output=output, tied=tied)
        x = batch(model.sizes[0], items=items)
        squared_error, gradient = by_hand(model, x, x, loss)
        y = model(x)
        value = {
            "squared_error": lambda y, x: (y - x).square().sum(1).mean(),
            "mse": F.mse_loss,
            "cross_entropy": lambda y, x: -(x * y.log() + (1 - x) * (1 - y).log()).sum(1).mean(),
        }[loss](y, x)
        torch.testing.assert_close(squared_error, (y - x).square().sum(), rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(gradient, autograd(model, value), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("output", ["linear", "sigmoid"])
@pytest.mark.parametrize("items", [ITEMS, 1])
@pytest.mark.parametrize("activation", get_args(Activation))
def test_gradient_in_float32_matches_float64(activation: str, items: int, output: str) -> None:
    """Where images lie with channels last beside rows of a dense layer: torch has other kernels for float32 than for float64."""
    exact = make((3, 8, 8), layers=WORDS["convolutions and dense"], activation=activation, output=output)
    x = batch(3 * 64, items=items)
    error, gradient = by_hand(exact, x, x, "squared_error")
    model = copy.deepcopy(exact).float()
    parameters = FlatParameters(model, torch.float32)
    single = Gradient(model, parameters, items, "squared_error", items)
    single.input.copy_(x)
    torch.testing.assert_close(single.run().double(), error, rtol=1e-5, atol=0)
    assert (parameters.gradient.double() - gradient).norm() < 1e-5 * gradient.norm()


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_penalties_top_k_and_noise_match_the_loss(shape: tuple[int, int, int], words: tuple[str, ...]) -> None:
    training = TrainingConfig(sparsity="l1", sparsity_weight=0.3)
    model = make(shape, layers=words, activation="silu", code_top_k=2)
    x = batch(model.sizes[0])
    noisy = x + 0.3 * batch(model.sizes[0], 7)
    _, gradient = by_hand(model, x, noisy, "squared_error", CodePenalty(2, training, ITEMS))
    code = model.encode(noisy)
    loss = (model.decode(code) - x).square().sum(1).mean() + 0.3 * code.abs().sum(1).mean()
    torch.testing.assert_close(gradient, autograd(model, loss), rtol=1e-9, atol=1e-11)


def test_gradient_in_bfloat16_differs_only_by_rounding() -> None:
    model = make((3, 8, 8), layers=WORDS["convolutions and dense"], activation="silu").float()
    x = batch(3 * 64).float()
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        parameters = FlatParameters(copy.deepcopy(model), dtype)
        gradient = Gradient(model, parameters, ITEMS, "squared_error", ITEMS)
        gradient.input.copy_(x)
        gradient.run()
        found.append(parameters.gradient)
    exact, rounded = found
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize(
    "words", [WORDS["convolutions and dense"], WORDS["a code of convolutions"]], ids=["dense code", "conv code"]
)
def test_layers_are_pretrained_one_after_the_other(words: tuple[str, ...]) -> None:
    """Each layer alone learns to answer what those below it say, and the joint phase starts from them all."""
    training = {"epochs": 1, "pretraining_epochs": 2, "loss": "squared_error", "learning_rate": 0.003, "l2": 0.0}
    config = Config.model_validate({"model": {"layers": words, "activation": "silu"}, "training": training})
    trainer = Trainer(config, load_splits(config.data), Place(torch.device("cpu")))
    reports = [report for report in trainer.train() if isinstance(report, EpochReport)]
    assert [report.phase for report in reports] == [
        *itertools.chain.from_iterable([f"layer {number}"] * 2 for number in range(1, len(words) + 1)),
        "joint",
    ]
    for first, second in zip(reports[:-1:2], reports[1:-1:2], strict=True):
        assert second.train_mse_per_value < first.train_mse_per_value
