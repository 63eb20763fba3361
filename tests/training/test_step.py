"""The hand-written step: its gradient against autograd and finite differences, its Adam against torch's, its flat parameters."""

import copy
import gc
import weakref
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tiedae_cli.config import Activation, Loss, ModelConfig, TrainingConfig
from tiedae_cli.config.schema import Output
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.model import products
from tiedae_cli.model.activations import ACTIVATIONS
from tiedae_cli.model.autoencoder import TiedAutoencoder, build_autoencoder
from tiedae_cli.system.devices import Place
from tiedae_cli.system.random_streams import seeded
from tiedae_cli.training.step import TrainingStep
from tiedae_cli.training.step.gradient import Gradient
from tiedae_cli.training.step.optimizers.adam import Adam, plain_update
from tiedae_cli.training.step.parameters import FlatParameters
from tiedae_cli.training.training_set import TrainingSet

CPU = torch.device("cpu")
ITEMS, PIXELS = 6, 11
ENDS = ((0, "encoder", (7,)), (0, "decoder", (PIXELS,)), (1, "encoder", (3,)), (1, "decoder", (7,)))
SIZES = {1: (4,), 2: (7, 3), 3: (8, 5, 3)}
LOSSES = [("mse", "linear"), ("mse", "sigmoid"), ("squared_error", "linear"), ("squared_error", "sigmoid")]
LOSSES.append(("cross_entropy", "sigmoid"))


def is_bias(parameter: Tensor) -> bool:
    return parameter.dim() == 1


def make_model(dtype: torch.dtype = torch.float64, **options: object) -> TiedAutoencoder:
    """Return a model whose biases are not zero."""
    config = ModelConfig.model_validate({"hidden_sizes": (7, 3), **options})
    model = build_autoencoder(PIXELS, config, seeded(5)).to(dtype)
    with torch.no_grad():
        for bias in filter(is_bias, model.parameters()):
            bias.normal_(std=0.5, generator=torch.Generator().manual_seed(len(bias)))
    return model


def batch(seed: int = 3) -> Tensor:
    return torch.rand(ITEMS, PIXELS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def loss_of(model: TiedAutoencoder, x: Tensor, loss: Loss) -> Tensor:
    """Return the loss as the config's documentation words it."""
    y = model(x)
    if loss == "mse":
        return F.mse_loss(y, x)
    if loss == "squared_error":
        return (y - x).square().sum(1).mean()
    return F.binary_cross_entropy(y, x, reduction="none").sum(1).mean()


def flat(model: TiedAutoencoder, gradient: bool) -> Tensor:
    """Return all parameters, or their gradients, in the order of the flat buffer: weights, then biases."""
    tensors = sorted(model.parameters(), key=is_bias)
    return torch.cat([(tensor.grad if gradient else tensor.detach()).reshape(-1) for tensor in tensors])


def by_hand(
    model: TiedAutoencoder, x: Tensor, loss: Loss, dtype: torch.dtype, items: int = ITEMS
) -> tuple[Tensor, FlatParameters]:
    """Return the squared error and the flat parameters with the gradient of a copy of the model."""
    model = copy.deepcopy(model)
    parameters = FlatParameters(model, dtype)
    gradient = Gradient(model, parameters, ITEMS, loss, items)
    gradient.input.copy_(batch(99))
    gradient.run()  # what an earlier batch left in the buffers must not matter
    gradient.input.copy_(x)
    return gradient.run(), parameters


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("depth", SIZES)
@pytest.mark.parametrize(("loss", "output"), LOSSES)
@pytest.mark.parametrize("activation", get_args(Activation))
def test_gradient_matches_autograd(activation: str, loss: Loss, output: str, depth: int, tied: bool) -> None:
    model = make_model(hidden_sizes=SIZES[depth], activation=activation, output=output, tied=tied)
    squared_error, parameters = by_hand(model, batch(), loss, torch.float64)
    loss_of(model, batch(), loss).backward()
    torch.testing.assert_close(parameters.gradient, flat(model, gradient=True), rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(squared_error, (model(batch()) - batch()).square().sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("path", ["none", "pca"])
@pytest.mark.parametrize("smallest", [1, ITEMS * 7 * 3 + 1], ids=["all products", "the large products"])
@pytest.mark.parametrize("activation", get_args(Activation))
def test_gradient_matches_autograd_where_onednn_multiplies(
    activation: str, smallest: int, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its results are in new memory in each step; those of the other library, next to them, are not."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(products, "prefers_onednn", lambda: True)
    monkeypatch.setattr(products, "SMALLEST", smallest)
    model = make_model(torch.float32, activation=activation, linear_path=path)
    x = batch().to(torch.float32)
    squared_error, parameters = by_hand(model, x, "mse", torch.float32)
    loss_of(model, x, "mse").backward()
    torch.testing.assert_close(parameters.gradient, flat(model, gradient=True), rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(squared_error, (model(x) - x).square().sum(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layers", [["dense 4", "dense 3"], ["conv 2 3 1", "dense 3"]], ids=["dense", "convolutions"])
@pytest.mark.parametrize("path", ["none", "pca"])
def test_a_finished_gradient_is_freed_at_once(layers: list[str], path: str) -> None:
    """Also before Python looks for cycles, which a search with many trials may have to wait for."""
    config = ModelConfig.model_validate({"layers": layers, "linear_path": path})
    model = build_autoencoder((1, 4, 4), config, seeded(0))
    gradient = Gradient(model, FlatParameters(model, torch.float32), ITEMS, "mse", ITEMS)
    gradient.run()
    alive = weakref.ref(gradient)
    gc.disable()
    try:
        del gradient
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("corrupted", [False, True])
@pytest.mark.parametrize("loss", ["mse", "squared_error"])
def test_cross_entropy_is_added_in_the_loss_own_unit(loss: Loss, corrupted: bool) -> None:
    model, weight = make_model(output="sigmoid"), 0.3
    copied = copy.deepcopy(model)
    parameters = FlatParameters(copied, torch.float64)
    gradient = Gradient(copied, parameters, ITEMS, loss, ITEMS, corrupted=corrupted, cross_entropy_weight=weight)
    seen = batch(7) if corrupted else batch()
    gradient.input.copy_(seen)
    gradient.target.copy_(batch())
    gradient.run()
    y = model(seen)
    errors = (y - batch()).square() + weight * F.binary_cross_entropy(y, batch(), reduction="none")
    (errors.mean() if loss == "mse" else errors.sum(1).mean()).backward()
    torch.testing.assert_close(parameters.gradient, flat(model, gradient=True), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_cross_entropy_moves_a_pixel_stuck_at_one(dtype: torch.dtype) -> None:
    """An output of 1 has the derivative 0: the squared error, however large, says nothing to the pixel's bias."""
    slopes = {}
    for weight in (0.0, 0.01):
        model = make_model(torch.float32, output="sigmoid")
        with torch.no_grad():
            model.layers[0].decoder_bias[4] = 60.0
        parameters = FlatParameters(model, dtype)
        gradient = Gradient(model, parameters, ITEMS, "squared_error", ITEMS, cross_entropy_weight=weight)
        gradient.input.copy_(batch())
        gradient.run()
        slopes[weight] = parameters.views(parameters.gradient)["layers.0.decoder_bias"][4].item()
    assert slopes[0.0] == 0
    assert slopes[0.01] == pytest.approx(0.01 * (1 - batch()[:, 4]).mean().item(), rel=0.02)


def test_every_activation_has_a_derivative() -> None:
    assert set(ACTIVATIONS) == {*get_args(Activation), *get_args(Output)}


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if not ACTIVATIONS[name].keeps_input])
def test_the_fast_form_of_an_activation_is_within_rounding_of_torchs(name: Activation) -> None:
    """In float64 the function itself is exact; the float32 form of the step may leave out expm1 and log1p."""
    x = torch.cat([torch.linspace(-100, 100, 4001), torch.logspace(-8, 0, 100), -torch.logspace(-8, 0, 100)])
    expected, kind = ACTIVATIONS[name].function(x.double()), ACTIVATIONS[name]
    assert kind.forward is not None
    for out in (torch.empty_like(x), x):  # the result may replace the input
        kind.forward(x, out)
        torch.testing.assert_close(out.double(), expected, rtol=2e-7, atol=3e-7)


def test_the_fast_softplus_is_within_rounding_of_torchs() -> None:
    x, forward = torch.linspace(-100, 100, 4001), ACTIVATIONS["softplus"].forward
    assert forward is not None
    out = torch.empty_like(x)
    forward(x, out)
    torch.testing.assert_close(out.double(), F.softplus(x.double()), rtol=2e-7, atol=3e-7)


@pytest.mark.parametrize("code_activation", get_args(Activation))
@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_gradient_with_a_code_activation(activation: str, code_activation: str) -> None:
    model = make_model(hidden_sizes=(8, 5, 3), activation=activation, code_activation=code_activation)
    _, parameters = by_hand(model, batch(), "mse", torch.float64)
    loss_of(model, batch(), "mse").backward()
    torch.testing.assert_close(parameters.gradient, flat(model, gradient=True), rtol=1e-10, atol=1e-12)


def test_gradient_matches_finite_differences() -> None:
    """Central differences of the loss, along every single parameter."""
    model = make_model(activation="gelu", output="sigmoid")
    _, parameters = by_hand(model, batch(), "squared_error", torch.float64)
    moved = FlatParameters(model, torch.float64).master  # the model's parameters are views of it
    width, slopes = 1e-5, torch.empty_like(moved)
    with torch.no_grad():
        for index in range(len(moved)):
            there = []
            for distance in (width, -2 * width):
                moved[index] += distance
                there.append(loss_of(model, batch(), "squared_error"))
            moved[index] += width
            slopes[index] = (there[0] - there[1]) / (2 * width)
    torch.testing.assert_close(parameters.gradient, slopes, rtol=1e-6, atol=1e-8)


def test_the_mean_may_be_over_more_items_than_the_batch() -> None:
    """As with several processes: their gradients add up to that of the whole batch."""
    model = make_model()
    _, alone = by_hand(model, batch(), "mse", torch.float64)
    _, one_of_two = by_hand(model, batch(), "mse", torch.float64, items=2 * ITEMS)
    torch.testing.assert_close(one_of_two.gradient, alone.gradient / 2, rtol=1e-12, atol=1e-14)


def test_gradient_in_bfloat16_differs_only_by_rounding() -> None:
    """The master parameters and the gradient that Adam sees stay float32; the products are bfloat16 (8 bits: 0.4% a product)."""
    model = make_model(torch.float32, activation="silu")
    _, exact = by_hand(model, batch(), "squared_error", torch.float32)
    squared_error, rounded = by_hand(model, batch(), "squared_error", torch.bfloat16)
    assert (rounded.master.dtype, rounded.compute.dtype, rounded.gradient.dtype) == (
        torch.float32,
        torch.bfloat16,
        torch.float32,
    )
    assert not torch.equal(rounded.gradient, exact.gradient)
    assert (rounded.gradient - exact.gradient).norm() < 0.02 * exact.gradient.norm()
    with torch.no_grad():
        true_error = (model(batch().float()) - batch().float()).square().sum()
    assert squared_error.dtype == torch.float32
    torch.testing.assert_close(squared_error, true_error, rtol=0.02, atol=0)


def images(dtype: torch.dtype = torch.float32) -> TrainingSet:
    values = torch.rand(40, 1, 1, PIXELS, generator=torch.Generator().manual_seed(1))
    return TrainingSet(values.to(dtype).view(-1, PIXELS), ItemForm((1, 1, PIXELS)), CPU)


def test_small_steps_add_up_in_the_master_of_bfloat16() -> None:
    """Each step is far below what bfloat16 can add to a weight; 100 of them are not lost."""
    model = make_model(torch.float32)
    step = TrainingStep(model, images(), TrainingConfig(batch_size=20, l2=0), Place(CPU, torch.bfloat16))
    before = step.parameters.master.clone()
    step.begin_epoch(0, torch.arange(40), [1e-5, 1e-5])
    for _ in range(50):
        step.run(0)
        step.run(1)
    moved = (step.parameters.master - before).abs()
    assert model.layers[0].weight.dtype == torch.float32
    assert moved.median() == pytest.approx(1e-3, rel=0.2)  # Adam moves a parameter by about the rate each step


# Adam


@pytest.mark.parametrize("l2", [0.0, 0.03])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_adam_matches_torchs_with_decay_on_weights_only(tied: bool, l2: float) -> None:
    model = make_model(tied=tied)
    other = copy.deepcopy(model)
    parameters = FlatParameters(model, torch.float64)
    adam = Adam(parameters, l2)
    groups = [
        {"params": [p for p in other.parameters() if not is_bias(p)], "weight_decay": l2},
        {"params": [p for p in other.parameters() if is_bias(p)], "weight_decay": 0.0},
    ]
    reference = torch.optim.Adam(groups, lr=1.0, betas=(0.9, 0.999), eps=1e-8, fused=False, foreach=False)
    for number in range(25):
        rate = 0.01 / (1 + number)
        for group in reference.param_groups:
            group["lr"] = rate
        x = batch(number)
        reference.zero_grad()
        loss_of(other, x, "mse").backward()
        parameters.gradient.copy_(flat(other, gradient=True))
        adam.step(rate)
        reference.step()
        torch.testing.assert_close(flat(model, gradient=False), flat(other, gradient=False), rtol=1e-10, atol=1e-12)


def test_adam_resumes_bit_identically_from_its_state() -> None:
    def steps(adam: Adam, start: int, stop: int) -> None:
        for number in range(start, stop):
            generator = torch.Generator().manual_seed(number)
            adam.parameters.gradient.copy_(torch.randn(len(adam.parameters.master), generator=generator))
            adam.step(0.01)

    whole = Adam(FlatParameters(make_model(torch.float32), torch.float32), 0.01)
    steps(whole, 0, 9)
    first = Adam(FlatParameters(make_model(torch.float32), torch.float32), 0.01)
    steps(first, 0, 5)
    model = make_model(torch.float32)
    second = Adam(FlatParameters(model, torch.float32), 0.01)
    second.parameters.master.copy_(first.parameters.master)
    for name, buffer in second.buffers().items():
        buffer.copy_(first.buffers()[name])
    steps(second, 5, 9)
    assert torch.equal(second.parameters.master, whole.parameters.master)
    assert second.buffers()["steps"].item() == 9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("l2", [0.0, 0.03])
@pytest.mark.parametrize("broken", ["removed", "with other arguments", "with another result"])
def test_adam_does_without_torchs_private_kernel(
    broken: str, l2: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The public operations in its place differ from it by rounding."""

    def takes_nothing() -> None: ...

    def does_nothing(*_: object, **__: object) -> None: ...

    def trained() -> tuple[Tensor, object]:
        model = make_model(dtype)
        adam = Adam(FlatParameters(model, dtype), l2)
        for number in range(25):
            loss_of(model, batch(number).to(dtype), "mse").backward()
            adam.parameters.gradient.copy_(flat(model, gradient=True))
            model.zero_grad()
            adam.step(0.01 / (1 + number))
        return adam.parameters.master, adam.update

    expected, fused = trained()
    assert fused is torch._fused_adam_
    if broken == "removed":
        monkeypatch.delattr(torch, "_fused_adam_")
    else:
        monkeypatch.setattr(torch, "_fused_adam_", takes_nothing if broken == "with other arguments" else does_nothing)
    found, update = trained()
    assert update is plain_update
    torch.testing.assert_close(found, expected, rtol=1e-4 if dtype == torch.float32 else 1e-10, atol=1e-6)


# The flat parameters and the step


def test_the_models_parameters_are_views_of_the_flat_buffer() -> None:
    model = make_model(torch.float32)
    values = [parameter.detach().clone() for parameter in model.parameters()]
    step = TrainingStep(model, images(), TrainingConfig(batch_size=10), Place(CPU))
    assert all(torch.equal(new, old) for new, old in zip(model.parameters(), values, strict=True))
    assert len(step.parameters.master) == sum(parameter.numel() for parameter in model.parameters())
    step.begin_epoch(0, torch.arange(40), [0.01] * 4)
    step.run(0)
    assert torch.equal(flat(model, gradient=False), step.parameters.master)
    assert all(not torch.equal(new, old) for new, old in zip(model.parameters(), values, strict=True))
    model.load_state_dict({name: torch.zeros_like(value) for name, value in model.state_dict().items()})
    assert not step.parameters.master.any()


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_weights_come_first_in_the_flat_buffer(tied: bool) -> None:
    """Adam's decay stops there."""
    parameters = FlatParameters(make_model(tied=tied), torch.float64)
    assert parameters.weight_count == (1 if tied else 2) * (PIXELS * 7 + 7 * 3)
    shapes = {name: tuple(view.shape) for name, view in parameters.views(parameters.master).items()}
    weights = {"layers.0.weight": (7, PIXELS), "layers.1.weight": (3, 7)}
    untied = {} if tied else {"layers.0.decoder_weight": (7, PIXELS), "layers.1.decoder_weight": (3, 7)}
    biases = {f"layers.{i}.{part}_bias": size for i, part, size in ENDS}
    assert shapes == {**weights, **untied, **biases}


def test_a_step_scales_raw_values_as_the_form_says() -> None:
    raw = torch.randint(0, 256, (30, 1, 1, PIXELS), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    offset, scale = torch.arange(PIXELS, dtype=torch.float32), torch.arange(1, PIXELS + 1) / 100
    form = ItemForm((1, 1, PIXELS), "vectors", offset.numpy(), scale.numpy())
    data = TrainingSet(raw.view(30, PIXELS), form, CPU)
    model = make_model(torch.float32)
    x = (raw.reshape(30, PIXELS)[[4, 2, 29]].float() - offset) * scale
    with torch.no_grad():
        expected = (model(x) - x).square().sum()
    step = TrainingStep(model, data, TrainingConfig(batch_size=3), Place(CPU))
    step.begin_epoch(0, torch.tensor([4, 2, 29]).repeat(10), [0.01] * 10)
    step.run(0)
    torch.testing.assert_close(step.errors[0], expected, rtol=1e-5, atol=0)


def test_a_batch_is_never_larger_than_the_data() -> None:
    assert TrainingStep(make_model(torch.float32), images(), TrainingConfig(batch_size=1000), Place(CPU)).batch_size == 40


@pytest.mark.cuda
def test_gradient_on_cuda(cuda: torch.device) -> None:
    model = make_model(activation="silu", output="sigmoid").to(cuda)
    parameters = FlatParameters(model, torch.float64)
    gradient = Gradient(model, parameters, ITEMS, "cross_entropy", ITEMS)
    gradient.input.copy_(batch())
    gradient.run()
    reference = make_model(activation="silu", output="sigmoid")
    loss_of(reference, batch(), "cross_entropy").backward()
    torch.testing.assert_close(parameters.gradient.cpu(), flat(reference, gradient=True), rtol=1e-9, atol=1e-11)
