"""The peers of ``quality.py``: a whole program each, from the imports to a picture, as a person would write it without tiedae.

    python benchmarks/quality_peers.py torch|keras --sizes 300 150 --activation relu --epochs 5 --rate 0.004 --seed 0 --picture FILE

Both train a tied net of these sizes with a linear code, sigmoid output, squared error and batches of 250 by Adam, whose learning rate
rises for 30% of the steps and falls to almost nothing, on the images of MNIST held in memory as floats, without the first 5,000. They
print {"validation": ..., "test": ...}, the squared error per image, and draw ten test images with their reconstructions.
"""

import argparse
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

VALIDATION, BATCH, SHOWN = 5_000, 250, 10
Reconstruct = Callable[[np.ndarray], np.ndarray]


def images(split: str) -> np.ndarray:
    """Return MNIST's images, (N, 784) float32 in [0, 1]."""
    path = Path(os.environ["TIEDAE_DATA"]) / f"MNIST/raw/{split}-images-idx3-ubyte"
    return np.fromfile(path, np.uint8, offset=16).reshape(-1, 784).astype(np.float32) / 255


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of a step: cosine flanks up to the peak and down."""
    progress = step / max(1, steps - 1)
    low, high, part = (peak / 25, peak, progress / 0.3) if progress < 0.3 else (peak, peak / 25e4, (progress - 0.3) / 0.7)
    return high + (low - high) * (1 + math.cos(math.pi * part)) / 2


def torch_loop(train: np.ndarray, sizes: list[int], activation: str, epochs: int, rate: float, seed: int) -> Reconstruct:
    """Train with PyTorch: a module, autograd, fused Adam."""
    import torch
    from torch.nn import functional

    class Tied(torch.nn.Module):
        """The tied autoencoder."""

        def __init__(self) -> None:
            super().__init__()
            pairs = list(zip(sizes, sizes[1:], strict=False))
            self.weights = torch.nn.ParameterList(torch.randn(b, a) * math.sqrt(2 / a) for a, b in pairs)
            self.up = torch.nn.ParameterList(torch.zeros(b) for _, b in pairs)
            self.down = torch.nn.ParameterList(torch.zeros(a) for a, _ in pairs)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Reconstruct, (B, D) -> (B, D)."""
            last = len(sizes) - 2
            for index, (weight, bias) in enumerate(zip(self.weights, self.up, strict=True)):
                x = functional.linear(x, weight, bias)
                x = x if index == last else getattr(functional, activation)(x)
            for index, (weight, bias) in reversed(list(enumerate(zip(self.weights, self.down, strict=True)))):
                x = functional.linear(x, weight.t(), bias)
                x = torch.sigmoid(x) if index == 0 else getattr(functional, activation)(x)
            return x

    torch.manual_seed(seed)
    model, rows = Tied(), torch.from_numpy(train)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    steps = len(rows) // BATCH
    for epoch in range(epochs):
        order = torch.randperm(len(rows))
        for step in range(steps):
            x = rows[order[step * BATCH : (step + 1) * BATCH]]
            optimizer.param_groups[0]["lr"] = one_cycle(epoch * steps + step, epochs * steps, rate)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward((model(x) - x).square().sum() / BATCH)
            optimizer.step()

    def reconstruct(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found: np.ndarray = model(torch.from_numpy(x)).numpy()
        return found

    return reconstruct


def keras_fit(train: np.ndarray, sizes: list[int], activation: str, epochs: int, rate: float, seed: int) -> Reconstruct:
    """Train with Keras 3 and ``fit()``, on the backend that ``KERAS_BACKEND`` names."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    class Transposed(keras.layers.Layer):
        """A dense layer with another one's transposed kernel."""

        def __init__(self, dense: keras.layers.Dense, name: str) -> None:
            super().__init__()
            self.dense = dense
            self.activation = keras.activations.get(name)

        def build(self, shape: tuple[int, ...]) -> None:
            self.bias = self.add_weight(shape=(self.dense.kernel.shape[0],), initializer="zeros")

        def call(self, x: object) -> object:
            return self.activation(keras.ops.matmul(x, keras.ops.transpose(self.dense.kernel)) + self.bias)

    keras.utils.set_random_seed(seed)
    names = [activation] * (len(sizes) - 2) + ["linear"]
    dense = [
        keras.layers.Dense(units, activation=name, kernel_initializer="he_normal")
        for units, name in zip(sizes[1:], names, strict=True)
    ]
    inputs = x = keras.Input((sizes[0],))
    for layer in dense:
        x = layer(x)
    for layer, name in zip(reversed(dense), ["sigmoid", *names[:-1]][::-1], strict=True):
        x = Transposed(layer, name)(x)
    model = keras.Model(inputs, x)
    steps = len(train) // BATCH

    class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
        """The learning rate as in ``one_cycle``, in Keras's operations."""

        def __call__(self, step: object) -> object:
            progress = keras.ops.cast(step, "float32") / max(1, epochs * steps - 1)
            up = rate + (rate / 25 - rate) * (1 + keras.ops.cos(math.pi * progress / 0.3)) / 2
            down = rate / 25e4 + (rate - rate / 25e4) * (1 + keras.ops.cos(math.pi * (progress - 0.3) / 0.7)) / 2
            return keras.ops.where(progress < 0.3, up, down)

    def summed(target: Any, found: Any) -> object:
        return keras.ops.sum(keras.ops.square(target - found), axis=-1)

    model.compile(optimizer=keras.optimizers.Adam(OneCycle()), loss=summed)
    whole = train[: steps * BATCH]
    model.fit(whole, whole, batch_size=BATCH, epochs=epochs, shuffle=True, verbose=0)
    return lambda x: np.asarray(model.predict(x, batch_size=1000, verbose=0))


def draw(originals: np.ndarray, found: np.ndarray, path: str) -> None:
    """Draw images above their reconstructions."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(originals), figsize=(len(originals), 2))
    for row, values in zip(axes, (originals, found), strict=True):
        for cell, value in zip(row, values, strict=True):
            cell.imshow(value.reshape(28, 28), cmap="gray", vmin=0, vmax=1)
            cell.axis("off")
    figure.savefig(path)


def main() -> None:
    """Train, measure, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("who", choices=["torch", "keras"])
    parser.add_argument("--sizes", type=int, nargs="+", required=True)
    parser.add_argument("--activation", choices=["relu", "silu"], required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--picture", required=True)
    arguments = parser.parse_args()
    every, test = images("train"), images("t10k")
    train = {"torch": torch_loop, "keras": keras_fit}[arguments.who]
    sizes = [784, *arguments.sizes]
    reconstruct = train(every[VALIDATION:], sizes, arguments.activation, arguments.epochs, arguments.rate, arguments.seed)
    errors = {
        name: float(np.square(reconstruct(x) - x).sum(1).mean())
        for name, x in (("validation", every[:VALIDATION]), ("test", test))
    }
    draw(test[:SHOWN], reconstruct(test[:SHOWN]), arguments.picture)
    print(json.dumps(errors))


if __name__ == "__main__":
    main()
