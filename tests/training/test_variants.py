"""Training variants against autograd and closed forms: noise, shifts, sparsity, top-k, clipping, pretraining, early stopping, init_from."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tiedae_cli.config import Config, ModelConfig, TrainingConfig
from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import ConfigError, InputError
from tiedae_cli.model.autoencoder import TiedAutoencoder, build_autoencoder, top_k_mask
from tiedae_cli.model.corruption import corrupted
from tiedae_cli.runs.training_state import JOINT, EpochReport
from tiedae_cli.system.devices import Place, Ranks
from tiedae_cli.system.random_streams import epoch_order, seeded
from tiedae_cli.training.initial_weights import initial_weights
from tiedae_cli.training.phases import Phases
from tiedae_cli.training.step import TrainingStep
from tiedae_cli.training.step.batch import Batch, mirrored
from tiedae_cli.training.step.gradient import Gradient
from tiedae_cli.training.step.graph import CapturedStep
from tiedae_cli.training.step.parameters import FlatParameters
from tiedae_cli.training.step.penalty import CodePenalty
from tiedae_cli.training.trainer import Trainer
from tiedae_cli.training.training_set import TrainingSet, training_set

CPU = Place(torch.device("cpu"))
SIZE, ITEMS = 12, 7


def small_model(**model: object) -> TiedAutoencoder:
    return build_autoencoder(SIZE, ModelConfig(hidden_sizes=(9, 5), **model), seeded(3)).double()


def by_hand(model: TiedAutoencoder, x: torch.Tensor, target: torch.Tensor, training: TrainingConfig) -> dict[str, torch.Tensor]:
    """The hand-written gradient of every parameter."""
    model = copy.deepcopy(model)
    parameters = FlatParameters(model, torch.float64)
    penalty = CodePenalty(model.code_top_k, training, len(x))
    gradient = Gradient(model, parameters, len(x), training.loss, len(x), penalty, corrupted=True)
    gradient.input.copy_(x)
    gradient.target.copy_(target)
    gradient.run()
    return parameters.views(parameters.gradient)


def assert_equal_gradients(model: TiedAutoencoder, loss: torch.Tensor, found: dict[str, torch.Tensor]) -> None:
    loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-9, atol=1e-11, msg=name)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(ITEMS, SIZE, generator=generator).double(), torch.rand(ITEMS, SIZE, generator=generator).double()


def test_corrupted_input_clean_target(batch):
    model = small_model(activation="tanh")
    x, target = batch
    found = by_hand(model, x, target, TrainingConfig(loss="squared_error"))
    assert_equal_gradients(model, ((model(x) - target) ** 2).sum() / ITEMS, found)


def test_l1_on_the_code(batch):
    model = small_model(activation="elu", tied=False)
    x, target = batch
    training = TrainingConfig(loss="mse", sparsity="l1", sparsity_weight=0.7)
    code = model.encode(x)
    loss = F.mse_loss(model(x), target) + 0.7 * code.abs().sum() / ITEMS
    assert_equal_gradients(model, loss, by_hand(model, x, target, training))


def test_kl_to_a_target_rate(batch):
    model = small_model(activation="relu", code_activation="sigmoid", output="sigmoid")
    x, target = batch
    training = TrainingConfig(loss="cross_entropy", sparsity="kl", sparsity_weight=0.4, sparsity_target=0.1)
    mean = model.encode(x).mean(0)
    divergence = 0.1 * torch.log(0.1 / mean) + 0.9 * torch.log(0.9 / (1 - mean))
    loss = F.binary_cross_entropy(model(x), target, reduction="sum") / ITEMS + 0.4 * divergence.sum()
    assert_equal_gradients(model, loss, by_hand(model, x, target, training))


def test_top_k_keeps_the_largest_and_only_their_gradient(batch):
    model = small_model(activation="silu", code_activation="linear", code_top_k=2)
    x, target = batch
    codes = model.encode(x)
    assert ((codes != 0).sum(1) == 2).all()
    full = model.encode_layers(x, 2)
    for code, before in zip(codes, full, strict=True):
        largest = sorted(range(5), key=lambda unit: -before[unit].item())[:2]
        assert all(code[unit] == (before[unit] if unit in largest else 0) for unit in range(5))
    found = by_hand(model, x, target, TrainingConfig(loss="squared_error"))
    assert_equal_gradients(model, ((model(x) - target) ** 2).sum() / ITEMS, found)


def test_top_k_mask():
    mask = top_k_mask(torch.tensor([[1.0, 5.0, 3.0, -2.0]]), 2)
    assert mask.tolist() == [[0.0, 1.0, 1.0, 0.0]]


@pytest.mark.parametrize("kind", ["masking", "salt_and_pepper"])
def test_noise_changes_the_asked_fraction(kind):
    clean = torch.full((200, 500), 0.5)
    noisy = corrupted(clean, kind, 0.3, torch.rand(clean.shape, generator=torch.Generator().manual_seed(1)))
    assert (noisy != clean).float().mean().item() == pytest.approx(0.3, abs=0.01)
    values = set(noisy.unique().tolist())
    assert values == ({0.0, 0.5} if kind == "masking" else {0.0, 0.5, 1.0})


def test_gaussian_noise_has_the_asked_deviation():
    clean = torch.zeros(200, 500)
    noisy = corrupted(clean, "gaussian", 0.3, torch.randn(clean.shape, generator=torch.Generator().manual_seed(1)))
    assert noisy.std().item() == pytest.approx(0.3, rel=0.02)


def one_image(training: TrainingConfig, share: tuple[int, int] = (0, 4), count: int = 4) -> tuple[Batch, torch.Tensor]:
    images = torch.zeros(count, 1, 5, 6, dtype=torch.uint8)
    images[:, 0, 2, 3] = 255
    first, stop = share
    target = torch.zeros(stop - first, 30)
    items = TrainingSet(images.flatten(1), ItemForm((1, 5, 6), scale=1 / 255), CPU.device)
    batch = Batch(items, training, torch.zeros(stop - first, 30), target, (first, count))
    return batch, target


def test_shift_moves_whole_images_within_reach():
    batch, target = one_image(TrainingConfig(shift=1))
    places = set()
    for step in range(60):
        batch.fill(torch.arange(4), 0, step)
        where = target.view(4, 5, 6).nonzero()
        assert len(where) == 4 and torch.all(target.sum(1) == 1)
        places |= {(y, x) for _, y, x in where.tolist()}
    assert places == {(y, x) for y in (1, 2, 3) for x in (2, 3, 4)}


def test_flip_mirrors_half_of_the_images_in_every_channel():
    images = torch.arange(2 * 3 * 4, dtype=torch.uint8).view(1, 2, 3, 4).repeat(6, 1, 1, 1)
    target = torch.zeros(6, 24)
    data = TrainingSet(images.flatten(1), ItemForm((2, 3, 4), scale=1.0), CPU.device)
    batch = Batch(data, TrainingConfig(flip=True), torch.zeros(6, 24), target)
    mirrored = 0
    for step in range(100):
        batch.fill(torch.arange(6), 0, step)
        for found in target.view(6, 2, 3, 4):
            same, other = torch.equal(found, images[0].float()), torch.equal(found, images[0].flip(2).float())
            assert same != other
            mirrored += other
    assert 250 < mirrored < 350  # of 600, four standard deviations around the half


def test_random_choices_are_a_function_of_the_position_and_cut_by_rank():
    training = TrainingConfig(shift=2, flip=True, corruption="gaussian")
    whole, _ = one_image(training)
    whole.fill(torch.arange(4), 3, 8)
    first = whole.input.clone()
    whole.fill(torch.arange(4), 3, 9)
    assert not torch.equal(first, whole.input)
    whole.fill(torch.arange(4), 3, 8)
    assert torch.equal(first, whole.input)
    for start, stop in (Ranks(rank, 3).share(4) for rank in range(3)):
        part, _ = one_image(training, (start, stop))
        part.fill(torch.arange(4)[start:stop], 3, 8)
        assert torch.equal(part.input, first[start:stop])


@pytest.mark.parametrize(("side", "reach"), [(5, 2), (3, 2), (2, 5), (1, 3), (4, 0)])
def test_mirrored_pixels_are_numpys(side, reach):
    expected = np.pad(np.arange(side), reach, mode="reflect")
    assert mirrored(side, reach).tolist() == expected.tolist()


def test_mirrored_edges_show_the_image_alone():
    """Each shifted image is a window of the image with mirrored edges; all nine places are met, and each color moves alike."""
    image = torch.arange(3 * 5 * 4, dtype=torch.uint8).view(1, 3, 5, 4)
    count = 200
    images = TrainingSet(image.repeat(count, 1, 1, 1).flatten(1), ItemForm((3, 5, 4), scale=1.0), CPU.device)
    target = torch.zeros(count, 60)
    batch = Batch(images, TrainingConfig(shift=1, shift_edges="mirror"), target, target)
    batch.fill(torch.arange(count), 0, 0)
    wide = np.pad(image[0].numpy(), ((0, 0), (1, 1), (1, 1)), mode="reflect")
    windows = {tuple(wide[:, top : top + 5, left : left + 4].ravel().tolist()) for top in range(3) for left in range(3)}
    assert {tuple(row) for row in target.int().tolist()} == windows


def test_gradient_clipping_bounds_the_norm_and_keeps_the_direction():
    splits = load_splits(Config().data)
    gradients = []
    for clip in (None, 0.01):
        training = TrainingConfig(batch_size=50, gradient_clip=clip)
        model = build_autoencoder(64, ModelConfig(hidden_sizes=(8,)), seeded(0))
        step = TrainingStep(model, training_set(splits.train, CPU.device), training, CPU)
        step.begin_epoch(0, epoch_order(0, 0, len(splits.train)), [0.01] * step.steps)
        step.run(0)
        gradients.append(step.parameters.gradient.clone())
    free, clipped = gradients
    assert free.norm() > 0.02 and clipped.norm().item() == pytest.approx(0.01, rel=1e-4)
    torch.testing.assert_close(clipped / clipped.norm(), free / free.norm())


@pytest.mark.parametrize(
    "words", [["dense 20", "dense 8"], ["conv 6 4 2", "conv 4 3 1", "dense 8"]], ids=["dense", "convolutions"]
)
@pytest.mark.slow
def test_the_captured_operations_match_plain_steps(words):
    """What a CUDA graph captures, run one by one on the CPU: counter, order and rates looked up on the device."""
    splits = load_splits(Config().data)
    optimizers = ({"optimizer": "muon"}, {"optimizer": "soap"})
    variants = ({}, {"corruption": "masking", "gradient_clip": 0.1}, {"flip": True}, *optimizers)
    for training in (TrainingConfig(batch_size=100, **variant) for variant in variants):
        results = []
        for captured in (False, True):
            model = build_autoencoder((1, 8, 8), ModelConfig(layers=words), seeded(0))
            step = TrainingStep(model, training_set(splits.train, CPU.device), training, CPU)
            if captured:
                step.captured = CapturedStep(step, capture=False)
            step.begin_epoch(2, epoch_order(0, 2, len(splits.train)), [0.01 / (1 + i) for i in range(step.steps)], 3)
            for index in range(3, step.steps):
                step.run(index)
            results.append((step.parameters.master.clone(), step.errors.clone()))
        # The rate is rounded to float32 on the device; Muon enlarges what the rounding does to small singular values.
        atol = 1e-5 if training.optimizer == "muon" else 1e-7
        torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=atol)
        assert results[1][1][3:].min() > 0 and results[1][1][:3].max() == 0


def train(config: Config, weights: dict[str, torch.Tensor] | None = None) -> Trainer:
    trainer = Trainer(config, load_splits(config.data), CPU, weights)
    for _ in trainer.train():
        pass
    return trainer


def small_config(**training: object) -> Config:
    fields = {"epochs": 2, "batch_size": 100, "learning_rate": 0.005, "l2": 0.0, **training}
    return Config(model=ModelConfig(hidden_sizes=(32, 16, 8), activation="silu"), training=TrainingConfig(**fields))


def test_pretraining_trains_each_layer_on_the_output_below_then_all_layers():
    trainer = train(small_config(pretraining_epochs=3))
    phases = [report.phase for report in trainer.history]
    assert phases == [f"layer {n}" for n in (1, 1, 1, 2, 2, 2, 3, 3, 3)] + ["joint"] * 2
    for layer in (1, 2, 3):
        errors = [report.train_mse_per_value for report in trainer.history if report.phase == f"layer {layer}"]
        assert errors[-1] < errors[0]
    assert not any(report.best for report in trainer.history if report.phase != JOINT)
    plain = train(small_config())
    assert trainer.history[-2].validation_mse_per_value < plain.history[-2].validation_mse_per_value


def test_pretraining_uses_the_encoders_activations_and_merges_the_layer():
    config = small_config(pretraining_epochs=1)
    splits = load_splits(config.data)
    model = build_autoencoder(64, config.model, seeded(0))
    phases = Phases(model, splits, config.training, torch.device("cpu"))
    second = phases.named("layer 2")
    x = torch.from_numpy(splits.train.batch(0, len(splits.train)))
    torch.testing.assert_close(second.train.rows, model.encode_layers(x, 1).detach())
    assert [tuple(layer.weight.shape) for layer in second.model.layers] == [(16, 32)]
    assert [(layer.activation, layer.decoder_activation) for layer in second.model.layers] == [("silu", "silu")]
    with torch.no_grad():
        second.model.layers[0].weight.fill_(0.25)
    phases.merge(second)
    assert model.layers[1].weight.eq(0.25).all()


def test_early_stopping_ends_after_its_patience():
    trainer = train(small_config(epochs=400, early_stopping=2, learning_rate=0.05))
    best = max(report.epoch for report in trainer.history if report.best)
    assert len(trainer.history) == best + 2 < 400


def test_untying_starts_where_the_tied_model_ended(monkeypatch):
    tied = train(small_config())
    weights = {name: value.clone() for name, value in tied.model.state_dict().items()}
    config = small_config(init_from="tied.pt", epochs=3)
    config = config.model_copy(update={"model": config.model.model_copy(update={"tied": False})})

    class Found:
        form, config = tied.phase.train.form, small_config()

    Found.weights = weights
    monkeypatch.setattr("tiedae_cli.training.initial_weights.find_checkpoint", lambda name, runs: name)
    monkeypatch.setattr("tiedae_cli.training.initial_weights.checkpoints.load", lambda path: Found)
    start = initial_weights(config, tied.phase.train.form)
    untied = train(config, start)
    assert untied.initial_mse == pytest.approx(tied.history[-1].validation_mse_per_value, rel=1e-5)
    assert untied.history[-1].validation_mse_per_value < untied.initial_mse
    Found.config = config
    with pytest.raises(InputError, match="untied"):
        initial_weights(small_config(init_from="untied.pt"), tied.phase.train.form)


@pytest.mark.parametrize(
    ("layers", "theirs", "ours", "said"),
    [
        (("conv 4 4 2",), (3, 8, 8), (1, 12, 16), "a model 3x8x8-4x4x4 (conv 4 4 2), not 1x12x16-4x6x8 (conv 4 4 2)"),
        (
            ("conv 4 4 2", "dense 8"),
            (3, 8, 8),
            (3, 4, 16),
            "a model 3x8x8-4x4x4-8 (conv 4 4 2, dense 8), not 3x4x16-4x2x8-8 (conv 4 4 2, dense 8)",
        ),
        (("dense 8",), (1, 8, 8), (1, 4, 8), "a model 64-8 (dense 8), not 32-8 (dense 8)"),
    ],
)
def test_weights_of_a_model_for_other_shapes_are_refused(layers, theirs, ours, said, monkeypatch):
    config = Config.model_validate({"model": {"layers": layers}, "training": {"init_from": "other"}})

    class Found:
        form, weights = ItemForm(theirs), build_autoencoder(theirs, config.model, seeded(1)).state_dict()

    Found.config = config
    monkeypatch.setattr("tiedae_cli.training.initial_weights.find_checkpoint", lambda name, runs: name)
    monkeypatch.setattr("tiedae_cli.training.initial_weights.checkpoints.load", lambda path: Found)
    with pytest.raises(InputError) as caught:
        initial_weights(config, ItemForm(ours))
    assert str(caught.value) == f"training.init_from: other is {said}"
    assert initial_weights(config, ItemForm(theirs)).keys() == Found.weights.keys()


@pytest.mark.parametrize(
    "text, key",
    [
        ("training: {sparsity: kl}", "training.sparsity"),
        ("model: {hidden_sizes: [4], code_top_k: 5}", "model.code_top_k"),
        ("training: {pretraining_epochs: 1, init_from: x.pt}", "training.pretraining_epochs"),
        ("training: {early_stopping: 3}\ndata: {validation: 0}", "training.early_stopping"),
        ("training: {loss: cross_entropy}", "training.loss"),
        ("training: {schedule: one_cycle, warmup: 0.1}", "training.warmup"),
    ],
)
def test_contradictions_are_errors_with_their_place(text, key):
    with pytest.raises(ConfigError, match=f"c.yaml:1: {key}"):
        parse_config(text, "c.yaml")


def test_reports_of_every_epoch_are_finite():
    trainer = train(small_config(corruption="salt_and_pepper", shift=1, sparsity="l1", gradient_clip=1.0))
    assert all(isinstance(r, EpochReport) and math.isfinite(r.train_mse_per_value) for r in trainer.history)
