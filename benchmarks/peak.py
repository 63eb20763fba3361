"""The share of a processor's product peak that whole training steps reach, for networks of four sizes.

    OMP_NUM_THREADS=1 python benchmarks/peak.py [--bfloat16] [--rounds 5] [--device cpu]

The peak is measured in the same rounds: the best rate of square products, on a CPU by the faster one of torch's libraries. A step has
three times the arithmetic of the model, as torch counts it, less the gradient of the first layer's input. Images are random.
"""

import argparse
import statistics
import time

import torch
from peers import product_ways, wait_for
from torch.utils.flop_counter import FlopCounterMode

from tiedae_cli.config import ModelConfig, TrainingConfig
from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.model.autoencoder import build_autoencoder
from tiedae_cli.system.devices import Place
from tiedae_cli.system.random_streams import seeded
from tiedae_cli.training.step import TrainingStep
from tiedae_cli.training.training_set import training_set

Shape = tuple[int, int, int]
CONVOLUTIONS = "conv 48 4 2, conv 96 4 2, conv 128 4 2, dense 128"
NETS: dict[str, tuple[tuple[Shape, str, int], ...]] = {
    "cpu": (
        ((1, 28, 28), "dense 300, dense 150", 150),
        ((1, 28, 28), "dense 1000, dense 500, dense 250, dense 30", 500),
        ((1, 28, 28), "dense 4096, dense 1024", 500),
        ((3, 32, 32), CONVOLUTIONS, 128),
    ),
    "cuda": (
        ((1, 28, 28), "dense 300, dense 150", 4096),
        ((1, 64, 64), "dense 16384, dense 1024", 4096),
        ((3, 32, 32), CONVOLUTIONS, 4096),
        ((3, 64, 64), "conv 64 4 2, conv 128 4 2, conv 256 4 2, conv 512 4 2, dense 1024", 4096),
    ),
}
SIDES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}  # of the square products
CALLS = 4  # of a product
STEPS = 8  # of a round


def make_step(shape: Shape, layers: str, batch: int, place: Place) -> tuple[TrainingStep, float]:
    """Return the steps of an epoch, and the arithmetic of one in FLOP."""
    model_config = ModelConfig.model_validate({"layers": layers.split(", "), "activation": "silu", "code_activation": "linear"})
    training = TrainingConfig.model_validate({"batch_size": batch, "loss": "squared_error", "l2": 0.0})
    model = build_autoencoder(shape, model_config, seeded(0))
    with FlopCounterMode(display=False) as whole, torch.no_grad():
        model(torch.zeros(1, *shape))
    with FlopCounterMode(display=False) as first, torch.no_grad():
        layer = model.layers[0]
        layer.product(torch.zeros(1, *layer.input_shape), layer.weight)
    model = model.to(place.device)
    images = torch.randint(0, 256, (batch * STEPS, *shape), dtype=torch.uint8, generator=seeded(0))
    items = training_set(ItemSet(images.numpy(), None, ItemForm(shape, scale=1 / 255)), place.device)
    flop = batch * (3 * whole.get_total_flops() - first.get_total_flops())
    return TrainingStep(model, items, training, place), float(flop)


def seconds(step: TrainingStep, device: torch.device) -> float:
    """Return the seconds of one step, over an epoch of them."""
    step.begin_epoch(0, torch.arange(step.batch_size * STEPS), [1e-4] * STEPS)
    wait_for(device)
    began = time.perf_counter()
    for number in range(STEPS):
        step.run(number)
    step.done(STEPS)
    wait_for(device)
    return (time.perf_counter() - began) / STEPS


def peak(place: Place) -> float:
    """Return the best rate of square products, FLOP per second."""
    best = 0.0
    for side in SIDES[place.device.type]:
        a, b, out = (torch.randn(side, side, device=place.device).to(place.dtype) for _ in range(3))
        for product in product_ways(a, b, out):
            wait_for(place.device)
            began = time.perf_counter()
            for _ in range(CALLS):
                product()
            wait_for(place.device)
            best = max(best, CALLS * 2 * side**3 / (time.perf_counter() - began))
    return best


def main() -> None:
    """Measure in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", type=torch.device, default="cpu")
    arguments = parser.parse_args()
    place = Place(arguments.device, torch.bfloat16 if arguments.bfloat16 else torch.float32)
    found: dict[str, list[tuple[float, float]]] = {}
    steps = {
        f"{shape[0]} x {shape[1]} x {shape[2]}: {layers}, batch {batch}": make_step(shape, layers, batch, place)
        for shape, layers, batch in NETS[place.device.type]
    }
    for turn in range(arguments.rounds + 1):  # the first one warms
        for name, (step, flop) in steps.items():
            highest = peak(place)
            rate = flop / seconds(step, place.device)
            if turn:
                found.setdefault(name, []).append((rate, highest))
    for name, rates in found.items():
        shares = [rate / highest for rate, highest in rates]
        told = f"{statistics.median(shares):.2f} ({min(shares):.2f} - {max(shares):.2f}) of the peak"
        rate, highest = (statistics.median(column) / 1e9 for column in zip(*rates, strict=True))
        print(f"{name}: {rate:,.0f} of {highest:,.0f} GFLOP/s, {told}", flush=True)


if __name__ == "__main__":
    main()
