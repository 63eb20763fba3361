"""When a second thread is worth it: steps of networks of several sizes with one thread and with more, in turn.

    python benchmarks/threads.py [--threads 2] [--rounds 9]

With more threads than processors it shows what a container with a quota costs a program that starts a thread per processor it sees:
`--threads 16` on a machine with two.
"""

import argparse
import statistics

import numpy as np
import torch
from step_profile import run

from tiedae_cli.config import Config
from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.model.autoencoder import build_autoencoder
from tiedae_cli.system.devices import Place
from tiedae_cli.system.random_streams import seeded
from tiedae_cli.training.step import TrainingStep
from tiedae_cli.training.training_set import training_set

CPU = torch.device("cpu")
STEPS = 40
NETWORKS = (  # values per item, hidden sizes, items per batch
    (8, [16, 4], 50),
    (30, [128, 8], 50),
    (64, [128, 8], 50),
    (128, [128, 16], 100),
    (128, [256, 32], 100),
    (256, [256, 32], 100),
    (784, [128, 16], 50),
    (784, [128, 16], 100),
    (784, [300, 150], 50),
    (784, [300, 150], 150),
    (784, [1000, 500, 250, 30], 250),
)


def make_step(values: int, sizes: list[int], batch: int) -> TrainingStep:
    """Return the steps of an epoch on random vectors."""
    model = {"hidden_sizes": sizes, "activation": "silu", "output": "linear"}
    config = Config.model_validate({"model": model, "training": {"batch_size": batch}})
    form = ItemForm((1, 1, values), "vectors", offset=np.zeros(values), scale=np.ones(values))
    items = np.random.default_rng(0).normal(size=(STEPS * batch, values)).astype(np.float32)
    network = build_autoencoder(form.shape, config.model, seeded(0))
    return TrainingStep(network, training_set(ItemSet(items, None, form), CPU), config.training, Place(CPU))


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    for values, sizes, batch in NETWORKS:
        step = make_step(values, sizes, batch)
        times: dict[int, list[float]] = {1: [], arguments.threads: []}
        for _ in range(arguments.rounds):
            for threads, found in times.items():
                torch.set_num_threads(threads)
                run(step, STEPS)
                found.append(run(step, STEPS) / STEPS * 1e3)
        ratio = statistics.median(more / one for one, more in zip(*times.values(), strict=True))
        one, more = map(statistics.median, times.values())
        print(
            f"{values}-{'-'.join(map(str, sizes))}, batch {batch}: {step.work / 1e6:,.1f} MFLOP a step; "
            f"1 thread {one:.3f} ms, {arguments.threads} threads {more:.3f} ms, {ratio:.2f} times as long",
            flush=True,
        )


if __name__ == "__main__":
    main()
