"""One-sided SOAP against a plain program of its equations, and against Adam where its bases are unit matrices; its state."""

import copy

import pytest
import torch
from torch import Tensor

from tiedae_cli.config import ModelConfig
from tiedae_cli.model.autoencoder import TiedAutoencoder, build_autoencoder
from tiedae_cli.system.random_streams import seeded
from tiedae_cli.training.step.optimizers.soap import BETA, EVERY, MOMENTUM, Soap
from tiedae_cli.training.step.parameters import FlatParameters

SHAPE = (1, 6, 4)
LAYERS = ["conv 3 3 1", "dense 9", "dense 7", "dense 1", "dense 3"]  # wide ones, a single row, a single column
TALL = ["dense 60", "dense 9"]  # of 24 values


def model_of(dtype: torch.dtype = torch.float64, layers: list[str] = LAYERS) -> TiedAutoencoder:
    return build_autoencoder(SHAPE, ModelConfig(layers=layers), seeded(1)).to(dtype)


def gradient_of(parameters: FlatParameters, step: int) -> None:
    """Fill the gradient with noise whose rows are correlated."""
    generator = torch.Generator().manual_seed(step)
    for gradient in parameters.views(parameters.gradient).values():
        rows = len(gradient)
        mixed = torch.randn(rows, rows, generator=torch.Generator().manual_seed(rows), dtype=torch.float64)
        noise = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
        gradient.copy_((mixed @ noise.view(rows, -1)).view(gradient.shape))


def expected_steps(
    values: dict[str, Tensor], gradients: list[dict[str, Tensor]], rates: list[float], l2: float
) -> dict[str, Tensor]:
    """Return the parameters after steps, by the equations, with one matrix at a time and nothing kept but what they name."""
    found = {}
    for name, start in values.items():
        w = (start.flatten(1) if start.dim() > 1 else start[None]).clone()
        turns = 1 < len(w) <= 2 * w.shape[1] and w.shape[1] > 1
        covariance, basis, m, v = torch.zeros(len(w), len(w)).double(), torch.eye(len(w)).double(), 0 * w, 0 * w
        for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True)):
            g = gradient[name].view_as(w) + (l2 * w if start.dim() > 1 else 0)
            if turns and step % EVERY == 1:
                new = torch.linalg.eigh(covariance)[1]
                m, basis = new.t() @ basis @ m, new
            covariance = BETA * covariance + (1 - BETA) * g @ g.t()
            turned = basis.t() @ g
            m, v = MOMENTUM * m + (1 - MOMENTUM) * turned, BETA * v + (1 - BETA) * turned**2
            mean, square = m / (1 - MOMENTUM ** (step + 1)), v / (1 - BETA ** (step + 1))
            w = w - rate * basis @ (mean / (square.sqrt() + 1e-8))
        found[name] = w.view_as(start)
    return found


def run(soap: Soap, start: int, stop: int) -> list[dict[str, Tensor]]:
    gradients = []
    for step in range(start, stop):
        soap.prepare(step)
        gradient_of(soap.parameters, step)
        gradients.append({name: g.clone() for name, g in soap.parameters.views(soap.parameters.gradient).items()})
        soap.step(0.01 / (1 + step))
    return gradients


@pytest.mark.parametrize(("l2", "layers", "turned"), [(0.0, LAYERS, 3), (0.3, LAYERS, 3), (0.0, TALL, 1)])
def test_soap_follows_its_equations(l2: float, layers: list[str], turned: int) -> None:
    """Over three bases, for convolutions, dense weights of any proportion, single rows and biases."""
    parameters = FlatParameters(model_of(layers=layers), torch.float64)
    before = {name: value.clone() for name, value in parameters.views(parameters.master).items()}
    soap = Soap(parameters, l2)
    gradients = run(soap, 0, 2 * EVERY + 5)
    expected = expected_steps(before, gradients, [0.01 / (1 + step) for step in range(len(gradients))], l2)
    for name, value in parameters.views(parameters.master).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-11, msg=name)
    assert len(soap.matrices) == turned
    for matrix in soap.matrices:
        one = torch.eye(len(matrix.basis), dtype=torch.float64)
        torch.testing.assert_close(matrix.basis.t() @ matrix.basis, one)
        assert (matrix.basis - one).abs().max() > 0.1


def test_until_the_first_basis_soap_is_torchs_adam() -> None:
    model = model_of()
    other = copy.deepcopy(model)
    soap = Soap(FlatParameters(model, torch.float64), 0.0)
    adam = torch.optim.Adam(other.parameters(), lr=0.01, betas=(MOMENTUM, BETA))
    for step in range(5):
        gradient_of(soap.parameters, step)
        for name, gradient in soap.parameters.views(soap.parameters.gradient).items():
            dict(other.named_parameters())[name].grad = gradient.clone()
        soap.step(0.01)
        adam.step()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_soap_resumes_bit_identically_from_its_buffers() -> None:
    whole, first, second = (Soap(FlatParameters(model_of(torch.float32), torch.float32), 0.01) for _ in range(3))
    run(whole, 0, 3 * EVERY)
    run(first, 0, EVERY + 3)
    for name, buffer in second.buffers().items():
        buffer.copy_(first.buffers()[name])
    second.parameters.master.copy_(first.parameters.master)
    run(second, EVERY + 3, 3 * EVERY)
    assert torch.equal(second.parameters.master, whole.parameters.master)


def test_a_gradient_that_is_not_finite_stops_no_eigendecomposition() -> None:
    """The trainer tells of it after the epoch or at the next save; here it must only not be hidden by another error."""
    soap = Soap(FlatParameters(model_of(torch.float32), torch.float32), 0.0)
    gradient_of(soap.parameters, 0)
    soap.parameters.gradient[3] = float("inf")
    soap.step(0.01)
    soap.prepare(1)
    assert not soap.parameters.master.isfinite().all()


@pytest.mark.cuda
def test_soap_on_cuda(cuda: torch.device) -> None:
    one = Soap(FlatParameters(model_of(), torch.float64), 0.01)
    other = Soap(FlatParameters(model_of().to(cuda), torch.float64), 0.01)
    run(one, 0, EVERY + 3)
    run(other, 0, EVERY + 3)
    torch.testing.assert_close(other.parameters.master.cpu(), one.parameters.master)
