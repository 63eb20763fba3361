"""The fused kernels of a step on CUDA, run by Triton's interpreter on the CPU: each against torch's operations, and whole steps.

The tests marked ``cuda`` run the compiled kernels.
"""

import functools
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from tiedae_cli.config import Loss, ModelConfig, TrainingConfig
from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.data.item_set import ItemForm, ItemSet, Splits
from tiedae_cli.model.activations import ACTIVATIONS, AnyActivation
from tiedae_cli.model.autoencoder import TiedAutoencoder, build_autoencoder
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.system.devices import Place
from tiedae_cli.system.random_streams import seeded
from tiedae_cli.training import trainer as training
from tiedae_cli.training.step import fusion, graph, training_step
from tiedae_cli.training.step.batch import Batch
from tiedae_cli.training.step.gradient import Gradient
from tiedae_cli.training.step.parameters import FlatParameters
from tiedae_cli.training.step.penalty import CodePenalty
from tiedae_cli.training.step.training_step import TrainingStep
from tiedae_cli.training.trainer import Trainer
from tiedae_cli.training.training_set import TrainingSet, training_set

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16]
FEW, WIDE = 5, 21  # a batch and a width that fill no tile


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the kernels, interpreted (see ``TRITON_INTERPRET`` in conftest.py)."""
    if torch.cuda.is_available():
        pytest.skip("with a GPU, the tests marked cuda run the compiled kernels")
    pytest.importorskip("triton")
    from triton.runtime import interpreter

    monkeypatch.setattr(interpreter, "_convert_float", rounding_as_a_gpu(interpreter._convert_float))
    from tiedae_cli.training.step import fused_kernels

    return fused_kernels


@pytest.fixture
def fused(kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps on the CPU are those of CUDA, with interpreted kernels and emulated graphs."""
    monkeypatch.setattr(training_step, "is_captured", lambda place: True)
    monkeypatch.setattr(fusion, "ITEMS", 4)  # of the trial: the interpreter is slow
    monkeypatch.setattr(fusion, "SIZES", (16, 8, 8))
    fusion._why_not.cache_clear()


def rounding_as_a_gpu(convert: Any) -> Any:
    """Return the interpreter's conversion with bfloat16 rounded to nearest; the interpreter truncates."""
    import triton.language as tl

    def rounded(values: np.ndarray, source: Any, target: Any, mode: Any) -> Any:
        if (source, target) == (tl.float32, tl.bfloat16):
            return torch.from_numpy(values.copy()).bfloat16().view(torch.int16).numpy()
        return convert(values, source, target, mode)

    return rounded


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


# Kernels


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_bias_activation_and_derivative_match_torch(name: AnyActivation, dtype: torch.dtype, kernels: Any) -> None:
    kind, tolerance = ACTIVATIONS[name], 1e-5 if dtype == torch.float32 else 0.02
    product, bias, gradient = (
        2 * random(*shape, seed=i, dtype=dtype) for i, shape in enumerate([(FEW, WIDE), (WIDE,)] + [(FEW, WIDE)])
    )
    z = (product.double() + bias.double()).requires_grad_()
    expected = kind.function(z)
    (slope,) = torch.autograd.grad(expected, z, gradient.double())

    out = torch.empty_like(product)
    kernels.activate(product, bias, out, name, kind.keeps_input)
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)
    bias_gradient = torch.empty_like(bias)
    kernels.derive(gradient, product if kind.keeps_input else out, gradient, bias_gradient, name)
    torch.testing.assert_close(gradient.double(), slope, rtol=tolerance, atol=2 * tolerance)
    torch.testing.assert_close(bias_gradient.double(), gradient.double().sum(0), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_nan_stays_a_nan(name: AnyActivation, kernels: Any) -> None:
    """Otherwise a diverged training would not be noticed."""
    product, out = torch.full((2, 3), torch.nan), torch.zeros(2, 3)
    kernels.activate(product, torch.zeros(3), out, name, False)
    assert out.isnan().all()
    gradient = torch.full((2, 3), torch.nan)
    kernels.derive(gradient, out, gradient, torch.zeros(3), name)
    assert gradient.isnan().all()


def test_activations_do_not_overflow(kernels: Any) -> None:
    """numpy would warn, and a warning is an error here."""
    z = torch.tensor([[-1e4, -100.0, 100.0, 1e4]])
    for name, kind in ACTIVATIONS.items():
        out = torch.empty_like(z)
        kernels.activate(z.clone(), torch.zeros(4), out, name, False)
        torch.testing.assert_close(out, kind.function(z))


def item_sets() -> dict[str, TrainingSet]:
    draws = np.random.default_rng(0)
    numbers = draws.normal(3, 2, (12, WIDE))
    missing = numbers.copy()
    missing[3] = np.nan
    offset, scale, fill = numbers.mean(0), 1 / numbers.std(0), np.full(WIDE, 2.5)
    vectors = ItemForm((1, 1, WIDE), "vectors", offset, scale, fill)
    pixels = torch.from_numpy(draws.integers(0, 256, (12, WIDE), np.uint8))
    return {
        "uint8": TrainingSet(pixels, ItemForm((1, 1, WIDE), scale=1 / 255), CPU),
        "float32": TrainingSet(torch.from_numpy(numbers).float(), ItemForm((1, 1, WIDE)), CPU),
        "standardized": TrainingSet(torch.from_numpy(numbers).float(), vectors, CPU),
        "float64 with missing values": TrainingSet(torch.from_numpy(missing), vectors, CPU),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("items", item_sets().values(), ids=item_sets())
def test_the_gathered_batch_is_bit_identical(items: TrainingSet, dtype: torch.dtype, kernels: Any) -> None:
    from tiedae_cli.training.step.fused_step import FusedGather

    input = torch.zeros(FEW, WIDE, dtype=dtype)
    batch = Batch(items, TrainingConfig(), input, input)
    order = torch.randperm(12, generator=seeded(1))[: 2 * FEW].view(2, FEW)
    batch.fill(order[1], 0, 0)
    expected = input.clone()
    assert FusedGather.fits(batch)
    FusedGather(batch, order, torch.tensor([1])).run()
    assert expected.abs().sum() > 0 and torch.equal(input, expected)


# The gradient


def gradients(
    model: TiedAutoencoder, dtype: torch.dtype, loss: Loss, batch: int, **options: Any
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield squared error and flat gradient, fused and plain."""
    from tiedae_cli.training.step.fused_gradient import FusedGradient

    start = {name: value.clone() for name, value in model.state_dict().items()}
    for kind in (FusedGradient, Gradient):
        model.load_state_dict(start)
        parameters = FlatParameters(model, dtype)
        gradient = kind(model, parameters, batch, loss, batch, **options)
        gradient.input.copy_(random(batch, model.sizes[0], seed=7).sigmoid())
        if options.get("corrupted"):
            gradient.target.copy_(random(batch, model.sizes[0], seed=8).sigmoid())
        yield gradient.run().clone(), parameters.gradient.clone()


VARIANTS: dict[str, tuple[dict[str, Any], Loss, dict[str, Any]]] = {
    "reference": ({"activation": "elu"}, "mse", {}),
    "untied": ({"activation": "silu", "output": "sigmoid", "tied": False}, "squared_error", {}),
    "cross-entropy": ({"activation": "gelu", "output": "sigmoid"}, "cross_entropy", {"corrupted": True}),
    "both losses": ({"activation": "relu", "output": "sigmoid"}, "squared_error", {"cross_entropy_weight": 0.1}),
    "clip": ({"activation": "softplus", "code_activation": "linear", "output": "clip"}, "mse", {}),
    "linear path": ({"activation": "tanh", "linear_path": "pca"}, "mse", {}),
    "untied linear path": (
        {"activation": "relu", "linear_path": "pca", "output": "clip", "tied": False},
        "mse",
        {"corrupted": True},
    ),
    "sparse linear path": (
        {"activation": "silu", "linear_path": "pca"},
        "mse",
        {"penalty": CodePenalty(None, TrainingConfig(sparsity="l1", sparsity_weight=0.1), FEW)},
    ),
    "one layer": ({"hidden_sizes": (4,), "activation": "selu"}, "mse", {}),
    "convolutions": ({"layers": ("conv 4 3 1", "dense 9", "dense 5"), "activation": "elu"}, "mse", {}),
    "sparse": (
        {"activation": "sigmoid", "code_top_k": 2},
        "mse",
        {"penalty": CodePenalty(2, TrainingConfig(sparsity="l1", sparsity_weight=0.1), FEW)},
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_fused_gradient_matches_the_plain_one(variant: str, kernels: Any) -> None:
    fields, loss, options = VARIANTS[variant]
    model = build_autoencoder((1, 3, 7), ModelConfig.model_validate({"hidden_sizes": (9, 4), **fields}), seeded(0))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(0.1 * random(*parameter.shape, seed=number))
    (error, found), (expected_error, expected) = gradients(model, torch.float32, loss, FEW, **options)
    torch.testing.assert_close(error, expected_error, rtol=1e-5, atol=0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_batch_of_several_tiles(kernels: Any) -> None:
    model = build_autoencoder(WIDE, ModelConfig(hidden_sizes=(9,), output="sigmoid"), seeded(0))
    (error, found), (expected_error, expected) = gradients(model, torch.float32, "mse", kernels.TILE // kernels.NARROWEST + 3)
    torch.testing.assert_close((error, found), (expected_error, expected), rtol=1e-4, atol=1e-7)


def test_in_bfloat16_it_differs_by_rounding(kernels: Any) -> None:
    model = build_autoencoder(WIDE, ModelConfig(hidden_sizes=(9, 4), activation="silu", output="sigmoid"), seeded(0))
    (_, exact), _ = gradients(model, torch.float32, "mse", FEW)
    found, plain = (gradient for _, gradient in gradients(model, torch.bfloat16, "mse", FEW))
    assert not torch.equal(found, exact)
    assert (found - exact).norm() < 1.2 * (plain - exact).norm() < 0.03 * exact.norm()


# Whole steps


TRAINING = "training: {epochs: 2, batch_size: 4, learning_rate: 0.003, schedule: one_cycle}"
CONFIGS = {
    "network": "model: {hidden_sizes: [6, 3], activation: silu, output: sigmoid}\n" + TRAINING,
    "linear path": "model: {hidden_sizes: [6, 3], activation: relu, output: clip, linear_path: pca}\n" + TRAINING,
}
WHOLE = pytest.mark.parametrize(
    ("text", "dtype"), [(CONFIGS["network"], torch.bfloat16), (CONFIGS["linear path"], torch.float32)]
)


def splits() -> Splits:
    values = np.random.default_rng(0).integers(0, 256, (24, 1, 3, 3), np.uint8)
    train, rest = (ItemSet(part, None, ItemForm((1, 3, 3), scale=1 / 255)) for part in (values[:20], values[20:]))
    return Splits(train, rest, rest, "made here")


def steps_per_graph(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_step, "CapturedStep", functools.partial(graph.CapturedStep, steps_per_graph=count))


def trained(trainer: Trainer) -> tuple[list[Tensor], list[float]]:
    """Train to the end; return the weights and the reported errors."""
    for _ in trainer.train():
        pass
    return list(trainer.model.state_dict().values()), [report.train_mse_per_value for report in trainer.history]


@pytest.mark.slow
@WHOLE
def test_a_fused_training_is_resumed_bit_identically(
    text: str, dtype: torch.dtype, fused: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if a report cuts a graph of several steps: an epoch has five, and it is interrupted in the middle of the second graph."""
    config, place = parse_config(text, "config"), Place(CPU, dtype)
    monkeypatch.setattr(training, "REPORT_EVERY", 1e9)
    steps_per_graph(2, monkeypatch)
    whole = Trainer(config, splits(), place)
    captured = whole.step.captured
    assert captured is not None and captured.refresh is not None and captured.steps_per_graph == 2
    weights, errors = trained(whole)

    monkeypatch.setattr(training, "REPORT_EVERY", -1.0)
    steps_per_graph(8, monkeypatch)
    first = Trainer(config, splits(), place)
    progress = (report for report in first.train() if not isinstance(report, EpochReport))
    assert [next(progress).step for _ in range(3)] == [0, 1, 2]  # the host's copy lags by one
    resumed = Trainer(config, splits(), place, resumes=True)
    resumed.restore({name: value.clone() for name, value in first.model.state_dict().items()}, first.state())
    resumed_weights, resumed_errors = trained(resumed)
    assert all(map(torch.equal, resumed_weights, weights)) and resumed_errors == errors

    monkeypatch.setattr(training_step, "gradient_class", lambda *_: Gradient)
    plain_weights, plain_errors = trained(Trainer(config, splits(), place))
    assert not all(map(torch.equal, plain_weights, weights))
    assert errors == pytest.approx(plain_errors, rel=1e-4 if dtype == torch.float32 else 0.02)


@pytest.mark.slow
def test_the_gate_of_the_code_is_held_in_the_first_step(fused: None) -> None:
    step = Trainer(parse_config(CONFIGS["linear path"], "config"), splits(), Place(CPU)).step
    gate = step.parameters.views(step.parameters.master)["path.code_gate"]
    step.begin_epoch(0, torch.arange(20), [0.003] * 5)
    for number, moved in enumerate([False, True]):
        step.run(number)
        step.done(number)
        assert bool(gate.any()) == moved


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"optimizer": "muon"}, {"gradient_clip": 0.1}, {"corruption": "masking"}], ids=str)
def test_what_has_no_kernel_is_done_by_torch(options: dict[str, Any], fused: None) -> None:
    results, corrupted = [], "corruption" in options
    for kind in ("fused", "plain"):
        model = build_autoencoder(9, ModelConfig(hidden_sizes=(6, 3), activation="tanh"), seeded(0))
        items, config = training_set(splits().train, CPU), TrainingConfig(batch_size=4, **options)
        step = TrainingStep(model, items, config, Place(CPU))
        assert step.gradient.fused and step.captured is not None
        assert (step.captured.refresh is not None) == corrupted and step.captured.steps_per_graph == 1
        if kind == "plain":
            step.captured, step.gradient = None, Gradient(model, step.parameters, 4, "mse", 4, corrupted=corrupted)
            step.batch = Batch(items, config, step.gradient.input, step.gradient.target)
        step.begin_epoch(0, torch.arange(20), [0.003] * 5)
        for number in range(5):
            step.run(number)
        results.append((step.parameters.master.clone(), step.errors.clone()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


# The choice


def chosen(batch: int = FEW) -> type[Gradient]:
    model = build_autoencoder(WIDE, ModelConfig(hidden_sizes=(4,)), seeded(0))
    return fusion.gradient_class(model, TrainingConfig(), torch.float32, batch)


def test_on_the_cpu_nothing_asks_for_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_step, "gradient_class", None)
    model = build_autoencoder(9, ModelConfig(hidden_sizes=(4,)), seeded(0))
    step = TrainingStep(model, training_set(splits().train, CPU), TrainingConfig(batch_size=4), Place(CPU))
    assert type(step.gradient) is Gradient and step.captured is None


def test_kernels_that_agree_with_torch_are_used_for_batches_that_they_are_fast_for(fused: None) -> None:
    from tiedae_cli.training.step.fused_gradient import LARGEST_BATCH

    assert chosen(LARGEST_BATCH).fused
    assert not chosen(LARGEST_BATCH + 1).fused


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["gather", "activate", "derive", "output", "adam", "path_code", "path_output", "path_code_gradient"]
)
def test_a_kernel_that_does_nothing_is_not_used(
    name: str, fused: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tiedae_cli.training.step import fused_kernels

    monkeypatch.setattr(fused_kernels, name, lambda *_: None)
    model = build_autoencoder(
        WIDE, ModelConfig(hidden_sizes=(4, 3), linear_path="pca" if "path" in name else "none"), seeded(0)
    )
    with caplog.at_level("INFO"):
        assert not fusion.gradient_class(model, TrainingConfig(), torch.float32, FEW).fused
    assert "the step uses torch's operations instead of fused kernels: " in caplog.text


def test_without_triton_torch_does_it_all(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for module in ("fused_kernels", "fused_gradient", "fused_step"):
        monkeypatch.delitem(sys.modules, f"tiedae_cli.training.step.{module}", raising=False)
        monkeypatch.delattr(f"tiedae_cli.training.step.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    fusion._why_not.cache_clear()
    with caplog.at_level("INFO"):
        assert not chosen().fused
    assert "uses torch's operations instead of fused kernels: ModuleNotFoundError" in caplog.text


def test_every_activation_has_a_kernel_and_needs_none(kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiedae_cli.training.step.fused_gradient import FusedGradient, FusedHalf

    def fused_halves() -> list[bool]:
        model = build_autoencoder(WIDE, ModelConfig(hidden_sizes=(4, 3), code_activation="tanh"), seeded(0))
        gradient = FusedGradient(model, FlatParameters(model, torch.float32), FEW, "mse", FEW)
        return [isinstance(half, FusedHalf) for half in gradient.halves] + [gradient.fuses_output]

    assert set(kernels.ACTIVATIONS) == set(ACTIVATIONS)
    assert fused_halves() == [True, True, True, False, True]  # the last half is the output
    monkeypatch.setattr(kernels, "ACTIVATIONS", ("tanh",))
    assert fused_halves() == [False, True, False, False, False]


COMPILE = """
import re
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction
from tiedae_cli.training.step import fusion

POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int64: "*i64", torch.uint8: "*u8"}
NUMBERS = {int: "i32", float: "fp32"}

def compiled(self, *args, grid, warmup, **flags):
    signature = {name: POINTERS[value.dtype] if isinstance(value, torch.Tensor) else NUMBERS[type(value)]
                 for name, value in zip(self.arg_names, args)} | dict.fromkeys(flags, "constexpr")
    ptx = triton.compile(ASTSource(self, signature, flags), target=GPUTarget("cuda", 90, 32)).asm["ptx"]
    print(self.__name__, bool(re.search(r"\\b(atom|red)\\.", ptx)))

JITFunction.run = compiled
fusion._steps(fusion.Trial(torch.device("cpu"), torch.bfloat16, (("gelu", "sigmoid"),), None, "mse", 0.1), fused=True)
fusion._steps(fusion.Trial(torch.device("cpu"), torch.bfloat16, (("relu", "linear"),), "clip", "mse", 0.0), fused=True)
"""


@pytest.mark.slow
def test_the_kernels_compile_for_an_h200_without_atomics(tmp_path: Path) -> None:
    """Atomic sums would depend on the order in which programs finish. Neither a GPU nor a driver is needed."""
    pytest.importorskip("triton", "3.4")
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        capture_output=True,
        text=True,
        env={**environment(), "TRITON_CACHE_DIR": str(tmp_path)},
    )
    expected = {"gather", "activate", "derive", "output", "adam", "code", "path_output", "path_code"}
    assert set(done.stdout.splitlines()) == {f"_{name}_kernel False" for name in expected}, done.stderr


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}


# On the device


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_compiled_kernels_agree_with_torch(dtype: torch.dtype, cuda: torch.device) -> None:
    pytest.importorskip("triton")
    for name, output in itertools.product(ACTIVATIONS, ("linear", "sigmoid", "clip")):
        for loss in get_args(Loss):
            if loss != "cross_entropy" or output == "sigmoid":
                trial = fusion.Trial(cuda, dtype, ((name, output),), None, loss, 0.0)  # type: ignore[arg-type]
                assert fusion._why_not(trial) is None, trial
    for output in ("linear", "clip"):
        trial = fusion.Trial(cuda, dtype, (("relu", "linear"),), output, "squared_error", 0.0)  # type: ignore[arg-type]
        assert fusion._why_not(trial) is None, trial


@pytest.mark.cuda
@WHOLE
def test_graphs_on_cuda_are_bit_identical(
    text: str, dtype: torch.dtype, cuda: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    config, results = parse_config(text, "config"), []
    for count in (1, graph.STEPS_PER_GRAPH, graph.STEPS_PER_GRAPH):
        steps_per_graph(count, monkeypatch)
        trainer = Trainer(config, splits(), Place(cuda, dtype))
        assert trainer.step.gradient.fused
        results.append(trained(trainer))
    for weights, errors in results[1:]:
        assert all(map(torch.equal, weights, results[0][0])) and errors == results[0][1]
