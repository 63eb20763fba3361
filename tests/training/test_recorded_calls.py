"""A step as one graph: the same bits as its calls for every kind of network, and the calls themselves if torch cannot record them."""

import gc
import weakref
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch

from tiedae_cli.config import Activation, Config, ModelConfig
from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.model import products
from tiedae_cli.model.activations import ACTIVATIONS
from tiedae_cli.model.autoencoder import build_autoencoder
from tiedae_cli.system.devices import Place
from tiedae_cli.system.random_streams import seeded
from tiedae_cli.training.step import TrainingStep, gradient, recorded_calls
from tiedae_cli.training.step.gradient import Gradient
from tiedae_cli.training.step.parameters import FlatParameters
from tiedae_cli.training.step.recorded_calls import Recording
from tiedae_cli.training.training_set import training_set

NEVER, STEPS = 10**9, 8
FORM = ItemForm((1, 4, 4), scale=1 / 255)
IMAGES = np.random.default_rng(0).integers(0, 256, (STEPS * 6, 1, 4, 4), dtype=np.uint8)


def trained(
    after: int, config: Config, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> tuple[TrainingStep, list[bytes]]:
    """Take the steps of an epoch; return the step, and the bits of error, gradient and weights after each."""
    monkeypatch.setattr(recorded_calls, "RECORDED_AFTER", after)
    cpu = torch.device("cpu")
    model = build_autoencoder((1, 4, 4), config.model, seeded(0))
    step = TrainingStep(model, training_set(ItemSet(IMAGES, None, FORM), cpu), config.training, Place(cpu, dtype))
    step.begin_epoch(0, torch.arange(len(IMAGES)), [0.01] * STEPS)
    bits = []
    for number in range(STEPS):
        step.run(number)
        parts = (step.errors, step.parameters.gradient, step.parameters.master)
        bits.append(b"".join(part.numpy().tobytes() for part in parts))
    return step, bits


def is_recorded(step: TrainingStep) -> bool:
    """Whether the steps run as a graph now."""
    assert isinstance(step.gradient, Gradient)
    return step.gradient.recorded.graph is not None


def configured(training: dict[str, Any] | None = None, **model: object) -> Config:
    sections = {"model": {"hidden_sizes": [7, 3], **model}, "training": {"batch_size": 6, **(training or {})}}
    return Config.model_validate(sections)


CONFIGS = {
    **{
        f"{name}, path {path}": configured(activation=name, linear_path=path)
        for name in get_args(Activation)
        for path in ("none", "pca")
    },
    "one layer": configured(hidden_sizes=[3]),
    "four layers, untied": configured(hidden_sizes=[9, 8, 4, 2], tied=False),
    "sigmoid and squared error": configured({"loss": "squared_error", "cross_entropy_weight": 0.01}, output="sigmoid"),
    "cross-entropy": configured({"loss": "cross_entropy"}, output="sigmoid"),
    "clip": configured(output="clip", linear_path="pca"),
    "corrupted": configured({"corruption": "gaussian", "corruption_level": 0.2}),
    "SOAP": configured({"optimizer": "soap"}, activation="silu"),
    "clipped gradient": configured({"gradient_clip": 0.1}, code_activation="linear"),
}


@pytest.mark.parametrize("onednn", [False, True], ids=["torch's products", "oneDNN's products"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_recorded_step_has_the_bits_of_its_calls(
    name: str, dtype: torch.dtype, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if onednn and not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(products, "prefers_onednn", lambda: onednn)
    monkeypatch.setattr(products, "SMALLEST", 6 * 16 * 7 + 1 if name == "one layer" else 1)
    plain, expected = trained(NEVER, CONFIGS[name], dtype, monkeypatch)
    step, found = trained(2, CONFIGS[name], dtype, monkeypatch)
    assert is_recorded(step) and not is_recorded(plain)
    assert found == expected and len(set(found)) == STEPS


@pytest.mark.parametrize(
    "config",
    [
        configured({"sparsity": "kl", "sparsity_weight": 0.1}, code_activation="sigmoid"),
        configured(code_top_k=2),
        configured(hidden_sizes=None, layers=["conv 2 3 1", "dense 3"]),  # convolution_backward has three results
    ],
    ids=["kl", "top k", "convolutions"],
)
def test_other_steps_stay_calls(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    step, found = trained(2, config, torch.float32, monkeypatch)
    assert not is_recorded(step)
    assert found == trained(NEVER, config, torch.float32, monkeypatch)[1]


def test_a_large_step_stays_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    work = 12 * 6 * (16 * 7 + 7 * 3)
    monkeypatch.setattr(gradient, "LARGEST_RECORDED", work)
    assert is_recorded(trained(2, configured(), torch.float32, monkeypatch)[0])
    monkeypatch.setattr(gradient, "LARGEST_RECORDED", work - 1)
    assert not is_recorded(trained(2, configured(), torch.float32, monkeypatch)[0])


@pytest.mark.parametrize("forward", ["depends on a value", "is random"])
def test_operations_that_may_be_others_in_the_next_step_stay_calls(forward: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def depends(x: torch.Tensor, out: torch.Tensor) -> None:
        torch.clamp_min(x, 1.0 if x.sum().item() > 1e9 else 0.0, out=out)

    def is_random(x: torch.Tensor, out: torch.Tensor) -> None:
        torch.mul(torch.clamp_min(x, 0.0), 1.0 + 1e-6 * torch.rand_like(x), out=out)

    kind = replace(ACTIVATIONS["relu"], forward=depends if forward == "depends on a value" else is_random)
    monkeypatch.setitem(ACTIVATIONS, "relu", kind)
    step, _ = trained(2, configured(activation="relu"), torch.float32, monkeypatch)
    assert not is_recorded(step)


def no_language(text: str) -> Any:
    raise AttributeError("parse_ir")


def forgets_a_line(recording: Recording, name: str) -> None:
    """Leave out the last line with this operation, of which no other line needs the result."""
    place = max(number for number, line in enumerate(recording._lines) if name in line)
    del recording._lines[place]


@pytest.mark.parametrize("fault", ["no language", "no function", "sum", "mm", "elu_backward"])
def test_without_a_graph_that_gives_the_same_bits_the_calls_stay(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "prefers_onednn", lambda: False)
    _, expected = trained(NEVER, configured(activation="elu"), torch.float32, monkeypatch)
    finish = Recording.finish
    if fault == "no language":
        monkeypatch.setattr(torch._C, "parse_ir", no_language)
    elif fault == "no function":
        monkeypatch.delattr(torch._C, "_create_function_from_graph")
    else:

        def finished(recording: Recording, result: torch.Tensor) -> None:
            forgets_a_line(recording, f"aten::{fault}(")
            finish(recording, result)

        monkeypatch.setattr(Recording, "finish", finished)
    step, found = trained(2, configured(activation="elu"), torch.float32, monkeypatch)
    assert not is_recorded(step)
    assert found == expected


def test_a_recorded_gradient_is_freed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_calls, "RECORDED_AFTER", 1)
    model = build_autoencoder((1, 4, 4), ModelConfig(hidden_sizes=(7, 3)), seeded(0))
    recorded = Gradient(model, FlatParameters(model, torch.float32), 6, "mse", 6)
    for number in range(4):
        recorded.input.copy_(torch.rand(6, 16, generator=seeded(number)))
        recorded.run()
    assert recorded.recorded.graph is not None
    alive, weight = weakref.ref(recorded), weakref.ref(recorded.below[0])
    gc.disable()
    try:
        del recorded
        assert alive() is None and weight() is None
    finally:
        gc.enable()
