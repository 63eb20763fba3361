"""Where a training step spends its time: products, activations, sums, the optimizer, the batch, and Python between them.

    OMP_NUM_THREADS=1 python benchmarks/step_profile.py [RECIPE ...] [--bfloat16] [--steps 60]

Runs steps of a sample config on random images of its shape: first timed by themselves, then under torch's profiler. Each part is the
operations' own CPU time under the profiler, scaled so that the operations and what lies between them make up the time without it.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from tiedae_cli.config.samples import sample_configs
from tiedae_cli.config.yaml_reader import load_config
from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.model.autoencoder import build_autoencoder
from tiedae_cli.system.devices import Place
from tiedae_cli.system.random_streams import seeded
from tiedae_cli.training.step import TrainingStep
from tiedae_cli.training.step.gradient import Gradient
from tiedae_cli.training.step.recorded_calls import RECORDED_AFTER
from tiedae_cli.training.training_set import training_set

RECIPES = ("mnist", "mnist-best", "hinton2006", "cifar10")
SHAPES = {"cifar10": (3, 32, 32)}  # of the images; 1 x 28 x 28 else
KINDS = {
    "products": ("mm", "addmm", "bmm", "convolution", "linear", "conv"),
    "activations": ("elu", "lu_", "lu", "gelu", "sigmoid", "tanh", "threshold", "clamp", "exp", "maximum", "hardtanh"),
    "sums": ("sum", "dot", "norm"),
    "copies": ("copy", "clone", "contiguous", "reorder"),
}
BATCH, OPTIMIZER = "batch", "optimizer"  # parts of their own, whatever the operation; the optimizer's products are apart


def make_step(recipe: str, dtype: torch.dtype, steps: int) -> TrainingStep:
    """Return the steps of an epoch of a sample config."""
    config, shape = load_config(sample_configs()[recipe]), SHAPES.get(recipe, (1, 28, 28))
    count = steps * config.training.batch_size
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=seeded(0)).numpy()
    items = training_set(ItemSet(images, None, ItemForm(shape, scale=1 / 255)), torch.device("cpu"))
    model = build_autoencoder(shape, config.model, seeded(0))
    return TrainingStep(model, items, config.training, Place(torch.device("cpu"), dtype))


def run(step: TrainingStep, steps: int) -> float:
    """Run an epoch; return its seconds."""
    step.begin_epoch(0, torch.arange(steps * step.batch_size), [1e-4] * steps)
    began = time.perf_counter()
    for number in range(steps):
        step.run(number)
    return time.perf_counter() - began


def marked(call: Callable[..., None], name: str) -> Callable[..., None]:
    """Return a function whose operations the profiler finds below ``name``."""

    def inside(*arguments: object) -> None:
        with record_function(name):
            call(*arguments)

    return inside


def kind(operation: str) -> str:
    """Return the part that an operation counts to."""
    name = operation.rpartition("::")[2].strip("_").removesuffix("_backward")
    return next((one for one, parts in KINDS.items() if any(part in name.split("_") or part == name for part in parts)), "rest")


def parts_of(step: TrainingStep, steps: int) -> tuple[float, dict[str, float]]:
    """Return the seconds of a step, and those of each part of it."""
    assert isinstance(step.gradient, Gradient)
    for _ in range(2 + RECORDED_AFTER // steps if step.gradient.records else 1):
        run(step, steps)
    alone = min(run(step, steps) for _ in range(3)) / steps
    step.batch.fill = marked(step.batch.fill, BATCH)  # type: ignore[method-assign]
    step.optimizer.step = marked(step.optimizer.step, OPTIMIZER)  # type: ignore[method-assign]
    with profile(activities=[ProfilerActivity.CPU]) as found:
        profiled = run(step, steps) / steps
    seconds: dict[str, float] = defaultdict(float)
    for event in found.events():
        owner = event
        while owner is not None and owner.name not in (BATCH, OPTIMIZER):
            owner = owner.cpu_parent
        if owner is None or event is not owner:
            part = kind(event.name) if owner is None else owner.name
            if owner is not None and owner.name == OPTIMIZER and kind(event.name) == "products":
                part = "optimizer's products"
            seconds[part] += event.self_cpu_time_total / 1e6 / steps
    seconds["between"] = profiled - sum(seconds.values())
    return alone, {part: value * alone / profiled for part, value in seconds.items()}


def main() -> None:
    """Profile and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=RECIPES, metavar="RECIPE")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    for recipe in arguments.recipes:
        step = make_step(recipe, torch.bfloat16 if arguments.bfloat16 else torch.float32, arguments.steps)
        alone, parts = parts_of(step, arguments.steps)
        told = "; ".join(f"{part} {value / alone:.1%}" for part, value in sorted(parts.items(), key=lambda one: -one[1]))
        print(f"{recipe}, {torch.get_num_threads()} threads: {alone * 1e3:.2f} ms a step: {told}", flush=True)


if __name__ == "__main__":
    main()
