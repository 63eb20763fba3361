"""The model: the tie, checked against forward passes and gradients that are written here without it, and the initial weights."""

import copy
import io
import math
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from tiedae_cli.config import Activation, ModelConfig
from tiedae_cli.model.activations import ACTIVATIONS
from tiedae_cli.model.autoencoder import TiedAutoencoder, build_autoencoder, untied_weights
from tiedae_cli.system.random_streams import seeded

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848, 1.0507009873554804934  # Klambauer et al. 2017, section 2
PLAIN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "elu": lambda z: np.where(z > 0, z, np.expm1(z)),
    "selu": lambda z: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(z)),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "gelu": lambda z: z * 0.5 * (1 + np.vectorize(math.erf)(z / math.sqrt(2))),
    "softplus": lambda z: np.log1p(np.exp(z)),
    "clip": lambda z: np.clip(z, 0, 1),
}


def make(input_size: int = 12, seed: int = 1, **options: object) -> TiedAutoencoder:
    """Return a model in float64 whose biases are not zero."""
    config = ModelConfig.model_validate({"hidden_sizes": (7, 5), **options})
    model = build_autoencoder(input_size, config, seeded(seed)).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for bias in (parameter for parameter in model.parameters() if parameter.dim() == 1):
            bias.normal_(generator=generator)
    return model


def batch(size: int = 12, items: int = 9) -> Tensor:
    return torch.rand(items, size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def numpy_forward(model: TiedAutoencoder, x: Tensor, **options: object) -> tuple[np.ndarray, np.ndarray]:
    """Return codes and reconstructions from the class docstring's equations, in numpy."""
    config = ModelConfig.model_validate(options)
    plain = [layer.weight.detach().numpy() for layer in model.layers]
    downwards = plain if config.tied else [layer.decoder_weight.detach().numpy() for layer in model.layers]
    up = [layer.encoder_bias.detach().numpy() for layer in model.layers]
    down = [layer.decoder_bias.detach().numpy() for layer in model.layers]
    h = x.numpy()
    for layer, (weight, bias) in enumerate(zip(plain, up, strict=True)):
        last = layer == len(plain) - 1
        f = PLAIN[(config.code_activation or config.activation) if last else config.activation]
        h = f(np.einsum("oi,bi->bo", weight, h) + bias)
    code = h
    for layer in range(len(plain) - 1, -1, -1):
        f = PLAIN[config.output if layer == 0 else config.activation]
        h = f(np.einsum("oi,bo->bi", downwards[layer], h) + down[layer])
    return code, h


def test_every_activation_has_a_reference_formula_here() -> None:
    assert PLAIN.keys() == ACTIVATIONS.keys()


def test_parameters_of_the_reference_model() -> None:
    """Two matrices, each once: 784 * 300 + 300 * 150, and the four biases."""
    model = build_autoencoder(784, ModelConfig(hidden_sizes=(300, 150)))
    assert sum(parameter.numel() for parameter in model.parameters()) == 281_734
    assert len(list(model.parameters())) == 6
    untied = build_autoencoder(784, ModelConfig(hidden_sizes=(300, 150), tied=False))
    assert sum(parameter.numel() for parameter in untied.parameters()) == 281_734 + 280_200


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("output", ["linear", "sigmoid", "clip"])
@pytest.mark.parametrize("activation", get_args(Activation))
def test_the_forward_pass_follows_the_equations(activation: str, output: str, tied: bool) -> None:
    options = {"activation": activation, "output": output, "tied": tied}
    model = make(**options)
    code, reconstruction = numpy_forward(model, batch(), **options)
    with torch.no_grad():
        np.testing.assert_allclose(model.encode(batch()).numpy(), code, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(model(batch()).numpy(), reconstruction, rtol=1e-12, atol=1e-13)
        assert torch.equal(model.decode(model.encode(batch())), model(batch()))


@pytest.mark.parametrize("sizes", [(4,), (9, 3), (9, 7, 5, 2)])
def test_the_forward_pass_follows_the_equations_at_every_depth(sizes: tuple[int, ...]) -> None:
    options = {"activation": "tanh", "code_activation": "linear"}
    model = make(hidden_sizes=sizes, **options)
    code, reconstruction = numpy_forward(model, batch(), **options)
    with torch.no_grad():
        assert model.encode(batch()).shape == (9, sizes[-1])
        np.testing.assert_allclose(model.encode(batch()).numpy(), code, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(model(batch()).numpy(), reconstruction, rtol=1e-12, atol=1e-13)


def test_the_gradient_of_a_tied_weight_is_the_sum_of_both_uses() -> None:
    """An untied model with equal weights gives the two parts apart."""
    tied, untied = make(activation="elu"), make(activation="elu", tied=False)
    untied.load_state_dict(untied_weights(tied.state_dict()))
    for model in (tied, untied):
        (model(batch()) - batch()).square().sum().backward()
    for one, two in zip(tied.layers, untied.layers, strict=True):
        weight, up, down = one.weight, two.weight, two.decoder_weight
        assert weight.grad is not None and up.grad is not None and down.grad is not None
        assert up.grad.abs().max() > 0.01 and down.grad.abs().max() > 0.01
        torch.testing.assert_close(weight.grad, up.grad + down.grad, rtol=1e-12, atol=1e-12)


def assert_tied(model: TiedAutoencoder) -> None:
    """Changing an encoder weight changes the decoder, and the forward pass is that of the changed weight in both places."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == 12 * 7 + 7 * 5 + 7 + 5 + 7 + 12
    codes = torch.ones(3, 5, dtype=torch.float64)
    with torch.no_grad():
        before = model.decode(codes)
        model.layers[0].weight.mul_(1.5)
        model.layers[1].weight.sub_(0.1)
        assert (model.decode(codes) - before).abs().max() > 0.01
        np.testing.assert_allclose(model(batch()).numpy(), numpy_forward(model, batch())[1], rtol=1e-12, atol=1e-13)


def test_the_tie_survives_a_copy_which_is_independent() -> None:
    model = make()
    before = [layer.weight.detach().clone() for layer in model.layers]
    assert_tied(copy.deepcopy(model))
    assert all(torch.equal(layer.weight, old) for layer, old in zip(model.layers, before, strict=True))


def test_the_tie_survives_a_change_of_type() -> None:
    assert_tied(make().float().double())


def test_the_tie_survives_saving_and_loading() -> None:
    model, buffer = make(), io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    loaded = build_autoencoder(12, ModelConfig(hidden_sizes=(7, 5))).double()
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    with torch.no_grad():
        assert torch.equal(loaded(batch()), model(batch()))
    assert_tied(loaded)


def test_the_tie_survives_a_step_of_torch_adam() -> None:
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    (model(batch()) - batch()).square().sum().backward()
    optimizer.step()
    assert_tied(model)


def assert_truncated_normal(weight: Tensor, fan_in: int) -> None:
    """Check deviation, limits and the middle of a normal distribution of variance 1.3 * 2 / fan_in cut at two deviations."""
    deviation = math.sqrt(1.3 * 2 / fan_in)
    inside = math.erf(2 / math.sqrt(2))  # what two deviations hold of a normal distribution
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    expected = deviation * math.sqrt(1 - 2 * 2 * density / inside)  # 0.8796 deviations
    values = weight.detach().double()
    error = expected / math.sqrt(values.numel())
    assert abs(values.mean().item()) < 4 * error
    assert abs(values.std().item() / expected - 1) < 4 / math.sqrt(2 * values.numel())
    assert 1.99 * deviation < values.abs().max().item() <= 2 * deviation * (1 + 1e-6)
    within_one = (values.abs() < deviation).double().mean().item()
    assert within_one == pytest.approx(math.erf(1 / math.sqrt(2)) / inside, abs=4 * 0.5 / math.sqrt(values.numel()))


def test_initial_weights() -> None:
    model = build_autoencoder(784, ModelConfig(hidden_sizes=(300, 150), tied=False), seeded(42, 0))
    assert_truncated_normal(model.layers[0].weight, 784)
    assert_truncated_normal(model.layers[1].weight, 300)
    assert_truncated_normal(model.layers[0].decoder_weight, 300)  # downwards it has 300 inputs
    assert_truncated_normal(model.layers[1].decoder_weight, 150)
    assert all(not bias.any() for bias in model.parameters() if bias.dim() == 1)


def test_initial_weights_are_a_function_of_the_generator() -> None:
    first, second, other = (build_autoencoder(12, ModelConfig(hidden_sizes=(7, 5)), seeded(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(first.layers, second.layers, strict=True))
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)
