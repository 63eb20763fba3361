"""A step's time with SOAP and Muon over one with Adam, by net and batch size, in turn.

    OMP_NUM_THREADS=1 python benchmarks/optimizers.py [--rounds 5] [--batches 150 250 600] [--device cpu]

Random images of 28 x 28, ReLU, sigmoid output, squared error, float32. Prints the least milliseconds of a step, and the
median, least and greatest ratio to Adam's of the same round.
"""

import argparse
import statistics
import time

import torch

from tiedae_cli.config import ModelConfig, TrainingConfig
from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.model.autoencoder import build_autoencoder
from tiedae_cli.system.devices import Place
from tiedae_cli.system.random_streams import seeded
from tiedae_cli.training.step import TrainingStep
from tiedae_cli.training.training_set import training_set

NETS = ((300, 150), (1000, 500, 250, 30))
OPTIMIZERS = ("adam", "soap", "muon")
STEPS = 10  # of a round: as many as a basis of SOAP's serves, so that each round takes one


def step_of(optimizer: str, batch: int, sizes: tuple[int, ...], device: torch.device) -> TrainingStep:
    """Return the steps of an epoch of ``STEPS``."""
    images = torch.randint(0, 256, (batch * STEPS, 1, 28, 28), dtype=torch.uint8, generator=seeded(0))
    shape = ModelConfig(hidden_sizes=sizes, activation="relu", code_activation="linear", output="sigmoid")
    training = TrainingConfig.model_validate({"batch_size": batch, "optimizer": optimizer, "loss": "squared_error", "l2": 0.0})
    model = build_autoencoder((1, 28, 28), shape, seeded(0)).to(device)
    items = ItemSet(images.numpy(), None, ItemForm((1, 28, 28), scale=1 / 255))
    return TrainingStep(model, training_set(items, device), training, Place(device))


def seconds(step: TrainingStep, device: torch.device) -> float:
    """Return the seconds of one step, over an epoch of them."""
    step.begin_epoch(0, torch.arange(step.batch_size * STEPS), [1e-4] * STEPS)
    began = time.perf_counter()
    for number in range(STEPS):
        step.run(number)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / STEPS


def main() -> None:
    """Time in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[150, 250, 600])
    parser.add_argument("--device", type=torch.device, default="cpu")
    arguments = parser.parse_args()
    for sizes in NETS:
        for batch in arguments.batches:
            steps = {name: step_of(name, batch, sizes, arguments.device) for name in OPTIMIZERS}
            times: dict[str, list[float]] = {name: [] for name in OPTIMIZERS}
            for _ in range(arguments.rounds):
                for name, step in steps.items():
                    times[name].append(seconds(step, arguments.device))
            for name in OPTIMIZERS:
                ratios = [mine / adam for mine, adam in zip(times[name], times["adam"], strict=True)]
                told = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
                net = "784-" + "-".join(map(str, sizes))
                print(f"{net:>21}  batch {batch:4}  {name}  {min(times[name]) * 1e3:8.2f} ms  {told} of Adam's", flush=True)


if __name__ == "__main__":
    main()
