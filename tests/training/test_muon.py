"""Muon against torch's own and the exact polar factor; its polynomials; vectors, decay, state; the config's keys."""

import copy
import math

import pytest
import torch
from torch import Tensor

from tiedae_cli.config import ModelConfig, TrainingConfig
from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.errors import ConfigError
from tiedae_cli.model.autoencoder import TiedAutoencoder, build_autoencoder
from tiedae_cli.system.devices import Place
from tiedae_cli.system.random_streams import seeded
from tiedae_cli.training.step import TrainingStep
from tiedae_cli.training.step.optimizers.muon import MOMENTUM, POLYNOMIALS, RMS, Muon, PolarFactor
from tiedae_cli.training.step.parameters import FlatParameters
from tiedae_cli.training.training_set import TrainingSet

PIXELS = 20
CLASSICAL = ((1.875, -1.25, 0.375),) * 12  # Newton-Schulz of order five: slow, and exact in the end
LEAST, WORST = 1e-3, 0.546  # the polynomials bring singular values from 0.001 to 1 to within 0.546 of 1


def model_of(*sizes: int, tied: bool = True, dtype: torch.dtype = torch.float32) -> TiedAutoencoder:
    model = build_autoencoder(PIXELS, ModelConfig(hidden_sizes=sizes, tied=tied), seeded(1)).to(dtype)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.normal_(generator=torch.Generator().manual_seed(number))
    return model


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def with_singular_values(values: Tensor, columns: int, seed: int = 0) -> Tensor:
    """Return a matrix, (len(values), columns), that has these singular values."""
    left, _ = torch.linalg.qr(random(len(values), len(values), seed=seed))
    right, _ = torch.linalg.qr(random(columns, len(values), seed=seed + 1))
    return (left * values) @ right.t()


def polar(matrix: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ right


# The polar factor


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-4), (torch.float32, 1e-3)])
@pytest.mark.parametrize("columns", [9, 30])
def test_the_polar_factor_of_a_small_matrix(columns: int, dtype: torch.dtype, error: float) -> None:
    """With the classical polynomials exactly; zeros, and factors of any size, change nothing."""
    matrix = with_singular_values(torch.linspace(0.05, 1, 9, dtype=torch.float64), columns).to(dtype)
    factor = PolarFactor(matrix, CLASSICAL)
    for size in (1.0, 1e-14, 1e-6, 1e6, 1e12, 1e18):
        torch.testing.assert_close(factor.of(matrix * size) @ (matrix * size), polar(matrix), rtol=0, atol=error)
    for power in range(-44, -14):  # where float32 loses the squares: a smaller step at worst
        small = matrix * 10.0**power
        assert torch.linalg.matrix_norm(factor.of(small) @ small, 2) <= 1 + error
    assert not (factor.of(torch.zeros_like(matrix)) @ torch.zeros_like(matrix)).any()
    singular = torch.cat([matrix, torch.zeros_like(matrix)])  # rows of units that are dead
    found = PolarFactor(singular, CLASSICAL).of(singular) @ singular
    torch.testing.assert_close(found, torch.cat([polar(matrix), torch.zeros_like(matrix)]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_singular_values_become_nearly_one_and_singular_vectors_stay(dtype: torch.dtype) -> None:
    """Over three powers of ten; what lies below them grows, but to no more than the others."""
    values = torch.logspace(-3, 0, 25, dtype=torch.float64) * 0.999
    values = torch.cat([values, torch.tensor([1e-9, 0.0], dtype=torch.float64)])
    matrix = with_singular_values(values, 40).to(dtype)
    found = PolarFactor(matrix).of(matrix) @ matrix
    left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    inside = left.t() @ found.double() @ right.t()  # diagonal if the singular vectors are the same
    assert (inside - inside.diagonal().diag()).abs().max() < 0.02
    nearly_one = inside.diagonal()[:20]
    assert (nearly_one - 1).abs().max() < WORST + 0.02
    assert inside.diagonal().abs().max() < 1 + WORST + 0.02


def test_each_polynomial_is_the_best_over_its_interval() -> None:
    """Chebyshev: the error takes its largest size with alternating signs at one place more than there are coefficients."""
    low, high = LEAST, 1.0
    for a, b, c in POLYNOMIALS:
        x = torch.linspace(0, 1, 400_001, dtype=torch.float64) * (high - low) + low
        error = 1 - (a * x + b * x**3 + c * x**5)
        worst = error.abs().max().item()
        places = error[error.abs() > worst - 2e-3].sign()
        assert 1 + (places[1:] != places[:-1]).sum() == 4
        low, high = 1 - worst, 1 + worst
    assert worst == pytest.approx(WORST, abs=2e-3)


# The optimizer


def gradients(parameters: FlatParameters, number: int) -> None:
    """Fill the gradient: of each matrix one whose singular values lie close together, so that bfloat16 finds its polar factor too."""
    for name, gradient in parameters.views(parameters.gradient).items():
        value = random(*gradient.shape, seed=number * 100 + len(name))
        if value.dim() == 2:
            rows = min(value.shape)
            wide = with_singular_values(torch.linspace(0.5, 1, rows, dtype=torch.float64), max(value.shape), number)
            value = wide if value.shape[0] == rows else wide.t()
        gradient.copy_(value)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_muon_matches_torchs_for_matrices_and_adam_for_biases(tied: bool) -> None:
    """torch.optim.Muon orthogonalises in bfloat16: 8 bits, so each step differs by about 1% of its size."""
    model = model_of(30, 7, tied=tied)
    other = copy.deepcopy(model)
    parameters = FlatParameters(model, torch.float32)
    muon = Muon(parameters, 0.0, polynomials=CLASSICAL)
    named = dict(other.named_parameters())
    matrices = [named[name] for name in parameters.names if named[name].dim() == 2]
    biases = [named[name] for name in parameters.names if named[name].dim() == 1]
    torchs = torch.optim.Muon(
        matrices,
        lr=1.0,
        weight_decay=0.0,
        momentum=MOMENTUM,
        ns_coefficients=CLASSICAL[0],
        ns_steps=len(CLASSICAL),
        adjust_lr_fn="match_rms_adamw",
    )
    adam = torch.optim.Adam(biases, lr=1.0)
    for number in range(8):
        rate = 0.01 / (1 + number)
        for group in (*torchs.param_groups, *adam.param_groups):
            group["lr"] = rate
        gradients(parameters, number)
        for name, gradient in parameters.views(parameters.gradient).items():
            named[name].grad = gradient.clone()
        before = {name: value.clone() for name, value in parameters.views(parameters.master).items()}
        others_before = {name: value.detach().clone() for name, value in named.items()}
        muon.step(rate)
        torchs.step()
        adam.step()
        for name, value in parameters.views(parameters.master).items():
            moved, others = value - before[name], named[name].detach() - others_before[name]
            assert (moved - others).norm() < (0.03 if value.dim() == 2 else 1e-4) * others.norm(), name
            if value.dim() == 2:
                expected = rate * RMS * math.sqrt(max(value.shape) * min(value.shape))
                assert moved.norm().item() == pytest.approx(expected, rel=0.01)


def test_the_penalty_is_part_of_the_gradient_and_biases_have_none() -> None:
    one, other = (FlatParameters(model_of(6, 3), torch.float32) for _ in range(2))
    gradients(one, 1)
    other.gradient.copy_(one.gradient)
    other.gradient[: other.weight_count] += 0.3 * other.master[: other.weight_count]
    Muon(one, 0.3).step(0.01)
    Muon(other, 0.0).step(0.01)
    torch.testing.assert_close(one.master, other.master)


def test_a_weight_of_one_row_or_column_is_updated_like_a_bias() -> None:
    """Sizes 20-1-4: both weights are vectors, and Adam's first step moves every parameter by the learning rate."""
    parameters = FlatParameters(model_of(1, 4), torch.float32)
    muon = Muon(parameters, 0.0)
    assert muon.momentum.numel() == 0 and muon.adam.first_moment.numel() == len(parameters.master)
    gradients(parameters, 0)
    before = parameters.master.clone()
    muon.step(0.01)
    torch.testing.assert_close((parameters.master - before).abs(), torch.full_like(before, 0.01), rtol=1e-3, atol=1e-5)
    mixed = Muon(FlatParameters(model_of(6, 1), torch.float32), 0.0)
    assert mixed.momentum.numel() == PIXELS * 6 and mixed.adam.first_moment.numel() == 6 + (6 + 1 + 6 + PIXELS)


def test_muon_resumes_bit_identically_from_its_buffers() -> None:
    def steps(muon: Muon, start: int, stop: int) -> None:
        for number in range(start, stop):
            muon.parameters.gradient.copy_(random(len(muon.parameters.master), seed=number))
            muon.step(0.01)

    whole, first, second = (Muon(FlatParameters(model_of(9, 4), torch.float32), 0.01) for _ in range(3))
    steps(whole, 0, 9)
    steps(first, 0, 5)
    for name, buffer in second.buffers().items():
        buffer.copy_(first.buffers()[name])
    second.parameters.master.copy_(first.parameters.master)
    steps(second, 5, 9)
    assert torch.equal(second.parameters.master, whole.parameters.master)


def training_step(**training: object) -> TrainingStep:
    values = torch.rand(40, 1, 1, PIXELS, generator=torch.Generator().manual_seed(1))
    images = TrainingSet(values.view(-1, PIXELS), ItemForm((1, 1, PIXELS)), torch.device("cpu"))
    return TrainingStep(model_of(9, 4), images, TrainingConfig(batch_size=20, **training), Place(torch.device("cpu")))


def test_momentum_defaults_to_that_of_the_optimizer() -> None:
    assert isinstance(training_step().optimizer, type(training_step(optimizer="adam").optimizer))
    assert training_step().optimizer.momentum == 0.9
    assert training_step(momentum=0.5).optimizer.momentum == 0.5
    for step, expected in ((training_step(optimizer="muon"), 0.95), (training_step(optimizer="muon", momentum=0), 0)):
        assert isinstance(step.optimizer, Muon) and step.optimizer.mu == expected


def test_another_optimizers_state_is_refused_by_name() -> None:
    adam, muon = training_step(), training_step(optimizer="muon")
    with pytest.raises(
        ValueError, match="needs first_moment, momentum, second_moment, steps, it holds first_moment, second_moment"
    ):
        muon.restore(adam.state())
    state = muon.state()
    with pytest.raises(ValueError, match=r"momentum has the shape \[3\], not \[216\]"):
        muon.restore({**state, "momentum": torch.zeros(3)})


@pytest.mark.parametrize("value", ["-0.1", "1", "1.5", "fast", "true"])
def test_momentum_outside_its_range_is_refused_with_its_place(value: str) -> None:
    with pytest.raises(ConfigError, match="c.yaml:2: training.momentum"):
        parse_config(f"training:\n  momentum: {value}", "c.yaml")


def test_an_unknown_optimizer_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"c.yaml:1: training.optimizer: .* \(did you mean muon\?\)"):
        parse_config("training: {optimizer: mun}", "c.yaml")


@pytest.mark.cuda
def test_muon_on_cuda(cuda: torch.device) -> None:
    """A captured step takes the rate as a tensor on the device."""
    one = Muon(FlatParameters(model_of(9, 4), torch.float32), 0.01)
    other = Muon(FlatParameters(model_of(9, 4).to(cuda), torch.float32), 0.01)
    for muon, rate in ((one, 0.01), (other, torch.tensor(0.01, device=cuda))):
        for number in range(3):
            muon.parameters.gradient.copy_(random(len(muon.parameters.master), seed=number))
            muon.step(rate)
    torch.testing.assert_close(other.parameters.master.cpu(), one.parameters.master, rtol=1e-3, atol=1e-4)
