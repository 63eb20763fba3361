"""Count what a captured step launches, with torch's operations and with the fused kernels.

    python benchmarks/launches.py [--device cuda]

Without a GPU the step runs on torch's device ``meta``, which computes nothing: each operation that is not a view counts once, and
each fused kernel once. With ``--device cuda`` the kernels of a replayed graph are counted by torch's profiler; a product or a sum
may be two.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from unittest.mock import MagicMock, patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tiedae_cli.config import ModelConfig, TrainingConfig
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.model.autoencoder import build_autoencoder
from tiedae_cli.system.devices import Place
from tiedae_cli.training.step import fusion, training_step
from tiedae_cli.training.step.gradient import Gradient
from tiedae_cli.training.step.graph import CapturedStep
from tiedae_cli.training.training_set import TrainingSet

MODELS = {
    "784-300-150, ELU": ModelConfig(),
    "784-300-150, SiLU, sigmoid output": ModelConfig(activation="silu", output="sigmoid"),
    "784-1000-500-250-30, ELU": ModelConfig(hidden_sizes=(1000, 500, 250, 30)),
    "784-300-150, ELU, linear path": ModelConfig(linear_path="pca"),
}
KERNELS = ("gather", "activate", "derive", "output", "adam", "path_code", "path_output", "path_code_gradient")
NO_LAUNCH = {
    "view",
    "t",
    "transpose",
    "slice",
    "select",
    "expand",
    "as_strided",
    "detach",
    "unsqueeze",
    "split",
    "permute",
    "alias",
}


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the name of each operation that would launch a kernel."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(
        self, operation: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Note an operation and run it on ``meta``; Adam's kernel has no such form."""
        name = operation._schema.name.removeprefix("aten::")
        if name not in NO_LAUNCH:
            self.names.append(name)
        return None if name == "_fused_adam_" else operation(*args, **(kwargs or {}))


def make_step(model: ModelConfig, place: Place) -> training_step.TrainingStep:
    """Return a step of 150 images on a device."""
    rows = torch.zeros(300, 784, dtype=torch.uint8, device=place.device)
    items = TrainingSet(rows, ItemForm((1, 28, 28), scale=1 / 255), place.device)
    step = training_step.TrainingStep(build_autoencoder(784, model).to(place.device), items, TrainingConfig(), place)
    step.begin_epoch(0, torch.arange(300), [0.01, 0.01])
    return step


def engine(fused: bool) -> type[Gradient]:
    """Return the gradient of a step."""
    if not fused:
        return Gradient
    from tiedae_cli.training.step.fused_gradient import FusedGradient

    return FusedGradient


def operations(model: ModelConfig, dtype: torch.dtype, fused: bool) -> list[str]:
    """Return the names of what a step launches, in order, counted without a GPU."""
    launches = Launches()

    def noted(name: str) -> Callable[..., None]:
        return lambda *_: launches.names.append(name)

    with ExitStack() as replaced:
        found = engine(fused)
        for name in KERNELS if fused else ():
            replaced.enter_context(patch(f"tiedae_cli.training.step.fused_kernels.{name}", noted(f"fused {name}")))
        for place, stand_in in (
            ("torch.Generator", MagicMock()),
            ("tiedae_cli.training.step.optimizers.adam.update_function", lambda _: torch._fused_adam_),
            ("tiedae_cli.training.step.training_step.is_captured", lambda _: True),
            ("tiedae_cli.training.step.training_step.gradient_class", lambda *_: found),
            ("tiedae_cli.training.step.training_step.CapturedStep", lambda step, capture: CapturedStep(step, False, 1)),
        ):
            replaced.enter_context(patch(place, stand_in))
        step = make_step(model, Place(torch.device("meta"), dtype))
        with launches:
            step.run(0)
    return launches.names


def kernels(model: ModelConfig, dtype: torch.dtype, fused: bool) -> list[str]:
    """Return the names of the kernels of a step on CUDA."""
    found = fusion.gradient_class if fused else lambda *_: Gradient
    with patch("tiedae_cli.training.step.training_step.gradient_class", found):
        step = make_step(model, Place(torch.device("cuda"), dtype))
    step.run(0)  # waits for others to share a graph with
    step.done(1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        assert step.captured is not None
        step.captured.replays[1]()
        torch.cuda.synchronize()
    return [event.name for event in profile.events() if not event.name.startswith(("Mem", "cuda"))]


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["meta", "cuda"], default="meta")
    parser.add_argument("--names", action="store_true", help="print what is launched")
    arguments = parser.parse_args()
    count = operations if arguments.device == "meta" else kernels
    for name, model in MODELS.items():
        for dtype in (torch.float32, torch.bfloat16):
            found = {fused: count(model, dtype, fused) for fused in (False, True)}
            numbers = f"{len(found[False])} with torch's operations, {len(found[True])} with fused kernels"
            print(f"{name}, {str(dtype).removeprefix('torch.')}: {numbers}")
            for names in found.values() if arguments.names else ():
                print("   ", ", ".join(names))


if __name__ == "__main__":
    main()
