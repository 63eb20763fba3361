"""The kinds of layers: one test of what tied means for all of them, and each against a reference of its own."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tiedae_cli.config import ModelConfig
from tiedae_cli.errors import ConfigError
from tiedae_cli.model.autoencoder import build_autoencoder, untied_weights
from tiedae_cli.model.layers import Convolution, Dense, Layer
from tiedae_cli.system.random_streams import seeded

KERNELS = [(4, 2), (3, 1), (5, 2), (3, 2), (2, 2), (1, 1), (5, 3), (7, 4), (4, 4)]
SIDES = [(8, 8), (7, 9), (1, 5), (6, 11), (13, 2)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def kinds() -> list[Layer]:
    """Return layers of all kinds, convolutions of every kernel on sizes that their strides divide and that they do not."""
    layers: list[Layer] = [Dense(7, 4, "linear", "linear", True), Dense(1, 3, "linear", "linear", True)]
    for (kernel, stride), (height, width) in itertools.product(KERNELS, SIDES):
        layers.append(Convolution((3, height, width), 5, kernel, stride, "linear", "linear", True))
    return layers


@pytest.mark.parametrize("layer", kinds(), ids=lambda layer: f"{layer.describe()} on {layer.input_shape}")
def test_the_transpose_is_the_adjoint(layer: Layer) -> None:
    """<W x, h> = <x, W^T h> for all x and h: the definition of tied."""
    weight = random(*layer.weight.shape)
    x, h = random(6, *layer.input_shape, seed=1), random(6, *layer.output_shape, seed=2)
    above, below = layer.product(x, weight), layer.transposed_product(h, weight)
    assert (above.shape, below.shape) == (h.shape, x.shape)
    torch.testing.assert_close((above * h).sum(), (x * below).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layer", kinds()[::7], ids=lambda layer: f"{layer.describe()} on {layer.input_shape}")
def test_a_weights_gradient_is_the_same_function_for_both_uses(layer: Layer) -> None:
    weight = random(*layer.weight.shape).requires_grad_()
    x, h = random(6, *layer.input_shape, seed=1), random(6, *layer.output_shape, seed=2)
    found = torch.empty_like(weight)
    for value, gradient in ((layer.product(x, weight), h), (layer.transposed_product(h, weight), x)):
        (expected,) = torch.autograd.grad(value, weight, gradient)
        layer.weight_gradient(x, h, found)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kernel", "stride"), KERNELS)
@pytest.mark.parametrize("sides", SIDES)
def test_every_pixel_is_read_and_reconstructed(kernel: int, stride: int, sides: tuple[int, int]) -> None:
    """Padding follows from the kernel: ceil(side / stride) numbers a side, and no pixel lies outside of all patches."""
    layer = Convolution((1, *sides), 2, kernel, stride, "linear", "linear", True)
    assert layer.output_shape == (2, *(math.ceil(side / stride) for side in sides))
    seen = layer.transposed_product(torch.ones(1, *layer.output_shape), torch.ones_like(layer.weight))
    assert (seen > 0).all()


def test_a_convolution_sums_over_patches() -> None:
    """Against sums that are written out, patch by patch, of 3 x 3 values every 2 pixels of a 5 x 4 image."""
    layer = Convolution((2, 5, 4), 3, 3, 2, "linear", "linear", True)
    weight, bias, x = random(3, 2, 3, 3), random(3, seed=3), random(1, 2, 5, 4, seed=1)
    padded = torch.zeros(2, 7, 6, dtype=torch.float64)
    padded[:, 1:6, 1:5] = x[0]
    expected = torch.empty(1, 3, 3, 2, dtype=torch.float64)
    for channel, row, column in itertools.product(range(3), range(3), range(2)):
        patch = padded[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        expected[0, channel, row, column] = (patch * weight[channel]).sum() + bias[channel]
    torch.testing.assert_close(layer.product(x, weight, bias), expected, rtol=1e-12, atol=1e-12)


def test_a_model_of_convolutions_matches_torchs_layers() -> None:
    """``conv2d`` upwards, ``conv_transpose2d`` of the same weights downwards; between the kinds values lie by channel, row, column."""
    config = ModelConfig(layers=("conv 4 4 2", "conv 5 3 1", "dense 6"), activation="relu", output="sigmoid")
    model = build_autoencoder((3, 8, 6), config, seeded(1)).double()
    with torch.no_grad():
        for number, bias in enumerate(parameter for parameter in model.parameters() if parameter.dim() == 1):
            bias.copy_(random(len(bias), seed=number))
    first, second, last = model.layers
    x = random(2, 3, 8, 6)
    h = F.relu(F.conv2d(x, first.weight, first.encoder_bias, stride=2, padding=1))
    h = F.relu(F.conv2d(h, second.weight, second.encoder_bias, padding=1)).flatten(1)
    code = F.relu(F.linear(h, last.weight, last.encoder_bias))
    g = F.relu(F.linear(code, last.weight.t(), last.decoder_bias)).view(2, 5, 4, 3)
    g = F.relu(F.conv_transpose2d(g, second.weight, second.decoder_bias, padding=1))
    y = torch.sigmoid(F.conv_transpose2d(g, first.weight, first.decoder_bias, stride=2, padding=1))
    torch.testing.assert_close(model.encode(x.flatten(1)), code, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(model(x.flatten(1)), y.flatten(1), rtol=1e-10, atol=1e-12)
    assert (model.sizes, model.shapes) == ((144, 48, 60, 6), "3x8x6-4x4x3-5x4x3-6")
    assert len(list(model.parameters())) == 3 + 2 * 3  # three weights for six layers


def test_an_untied_model_starts_equal_to_its_tied_source() -> None:
    words = ("conv 4 3 2", "conv 2")
    tied = build_autoencoder((1, 5, 5), ModelConfig(layers=words), seeded(1))
    untied = build_autoencoder((1, 5, 5), ModelConfig(layers=words, tied=False))
    untied.load_state_dict(untied_weights(tied.state_dict()))
    x = torch.rand(3, 25)
    assert torch.equal(untied(x), tied(x))
    assert not untied.tied


def test_initial_kernels_have_the_variance_of_their_fan_in() -> None:
    model = build_autoencoder((16, 9, 9), ModelConfig(layers=("conv 64 5 2",), tied=False), seeded(1))
    (layer,) = model.layers
    assert (layer.fan_in("encoder"), layer.fan_in("decoder")) == (16 * 25, 64 * 6.25)
    for weight, fan_in in ((layer.weight, 400), (layer.transposed, 400)):
        assert weight.abs().max() <= 2 * math.sqrt(2.6 / fan_in)
        assert weight.std().item() == pytest.approx(
            0.8796 * math.sqrt(2.6 / fan_in), rel=0.02
        )  # of a normal cut at two deviations


def test_a_code_of_channels_and_pixels_limits_top_k() -> None:
    words = ("conv 3 4 2",)
    build_autoencoder((1, 6, 6), ModelConfig(layers=words, code_top_k=27))
    with pytest.raises(ConfigError, match="code_top_k: must be at most 27, the units of the code; found 28"):
        build_autoencoder((1, 6, 6), ModelConfig(layers=words, code_top_k=28))
