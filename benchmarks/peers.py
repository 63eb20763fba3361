"""The peers of ``epoch.py``: the reference model written as others would, each a function that trains one epoch when called.

All train 784-300-150-300-784 tied, ELU, linear output, mean squared error plus L2, Adam 0.01, batches of 150, reshuffled each epoch,
the last partial batch dropped. Each is made from the images, (N, 784) uint8, and compiled or warmed by its first call.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tiedae_cli.model.products import onednn_multiplies, onednn_product

Epoch = Callable[[], None]
Weights = Any  # trees of JAX arrays
State = Any
SIZES, BATCH, RATE, L2 = (784, 300, 150), 150, 0.01, 0.0005
CALLS, ROUNDS = 30, 5  # of each library, in turn, to find the faster one for a product
SHAPES = [(300, 784), (150, 300)]
BIASES = [300, 150, 300, 784]


def initial(seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the weights and biases that every peer starts from."""
    generator = np.random.default_rng(seed)
    weights = [generator.normal(0, (1.3 * 2 / shape[1]) ** 0.5, shape).astype(np.float32) for shape in SHAPES]
    return weights, [np.zeros(size, np.float32) for size in BIASES]


class TorchModel(torch.nn.Module):
    """The tied model in plain PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        weights, biases = initial()
        self.weights = torch.nn.ParameterList(torch.from_numpy(weight) for weight in weights)
        self.biases = torch.nn.ParameterList(torch.from_numpy(bias) for bias in biases)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Reconstruct, (B, 784) -> (B, 784)."""
        w1, w2 = self.weights
        b1, b2, b3, b4 = self.biases
        h = F.elu(F.linear(F.elu(F.linear(x, w1, b1)), w2, b2))
        return F.linear(F.elu(F.linear(h, w2.t(), b3)), w1.t(), b4)


def torch_optimizer(model: TorchModel, fused: bool) -> torch.optim.Adam:
    """Return Adam with the L2 penalty on the weights alone."""
    groups: list[dict[str, Any]] = [{"params": list(model.weights), "weight_decay": L2}, {"params": list(model.biases)}]
    return torch.optim.Adam(groups, lr=RATE, fused=fused)


def floor(images: np.ndarray, dtype: torch.dtype, device: torch.device) -> Epoch:
    """Return the matrix products of an epoch alone, 11 a step: each by the faster one of torch's libraries, as timed here."""
    x = torch.from_numpy(images[:BATCH]).to(torch.float32).div(255).to(device, dtype)
    (w1, w2), _ = [[torch.from_numpy(array).to(device, dtype) for array in arrays] for arrays in initial()]
    h1, h2, h3, y = (x.new_empty(BATCH, size) for size in (300, 150, 300, 784))
    d1, d2, d3 = (torch.empty_like(h) for h in (h1, h2, h3))
    g1, g2 = torch.empty_like(w1), torch.empty_like(w2)

    forward = ((x, w1.t(), h1), (h1, w2.t(), h2), (h2, w2, h3), (h3, w1, y))
    decoder = ((h3.t(), y, g1), (y, w1.t(), d3), (h2.t(), d3, g2), (d3, w2.t(), d2))
    encoder = ((d2.t(), h1, g2), (d2, w2, d1), (d1.t(), x, g1))
    products = [faster_product(*operands) for operands in (*forward, *decoder, *encoder)]

    def epoch() -> None:
        for _ in range(len(images) // BATCH):
            for product in products:
                product()
        wait_for(device)

    return epoch


def product_ways(a: Tensor, b: Tensor, out: Tensor) -> list[Callable[[], Tensor]]:
    """Return A B by MKL (``torch.mm``, into ``out``) and by oneDNN (into new memory), which is for float32 on CPUs only."""
    ways: list[Callable[[], Tensor]] = [lambda: torch.mm(a, b, out=out)]
    if out.device.type == "cpu" and out.dtype == torch.float32 and onednn_multiplies():
        ways.append(lambda: onednn_product(a, b, None))
    return ways


def faster_product(a: Tensor, b: Tensor, out: Tensor) -> Callable[[], Tensor]:
    """Return A B by the faster one of torch's libraries."""
    ways = product_ways(a, b, out)
    times = [[_seconds(way) for way in ways] for _ in range(ROUNDS)]
    return ways[min(range(len(ways)), key=lambda place: min(times[turn][place] for turn in range(ROUNDS)))]


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(CALLS):
        call()
    return time.perf_counter() - began


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def torch_autograd(images: np.ndarray, device: torch.device, compiled: bool = False) -> Epoch:
    """Return PyTorch with autograd over images in the device's memory, fused Adam; the loss may be compiled."""
    model, rows = TorchModel().to(device), torch.from_numpy(images).to(device)
    optimizer = torch_optimizer(model, fused=True)

    def error(x: Tensor) -> Tensor:
        return F.mse_loss(model(x), x)

    loss: Callable[[Tensor], Tensor] = torch.compile(error) if compiled else error

    def epoch() -> None:
        order = torch.randperm(len(rows), device=device)
        for start in range(0, len(rows) - BATCH + 1, BATCH):
            x = rows[order[start : start + BATCH]].to(torch.float32).div_(255)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss(x))
            optimizer.step()
        wait_for(device)

    return epoch


def torch_dataloader(images: np.ndarray, device: torch.device) -> Epoch:
    """Return the loop that people write: torchvision's ToTensor on each image, a DataLoader, autograd, Adam."""
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import ToTensor

    class Images(Dataset[torch.Tensor]):
        """Images one by one, as torchvision's data sets give them."""

        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> torch.Tensor:
            image: torch.Tensor = to_tensor(Image.fromarray(images[index].reshape(28, 28)))
            return image

    to_tensor = ToTensor()
    model = TorchModel().to(device)
    optimizer = torch_optimizer(model, fused=False)
    loader = DataLoader(Images(), batch_size=BATCH, shuffle=True, drop_last=True)

    def epoch() -> None:
        for batch in loader:
            x = batch.view(BATCH, -1).to(device)
            optimizer.zero_grad()
            torch.autograd.backward(F.mse_loss(model(x), x))
            optimizer.step()
        wait_for(device)

    return epoch


def jax_scan(images: np.ndarray) -> Epoch:
    """Return pure JAX: the whole epoch is one jitted scan over the shuffled batches."""
    import jax
    import jax.numpy as jnp

    data = jnp.asarray(images)
    steps = len(images) // BATCH
    parameters = [[jnp.asarray(array) for array in arrays] for arrays in initial()]

    def loss(parameters: Weights, x: jax.Array) -> jax.Array:
        (w1, w2), (b1, b2, b3, b4) = parameters
        h = jax.nn.elu(jax.nn.elu(x @ w1.T + b1) @ w2.T + b2)
        y = jax.nn.elu(h @ w2 + b3) @ w1 + b4
        return jnp.mean((y - x) ** 2) + L2 / 2 * ((w1**2).sum() + (w2**2).sum())

    def step(state: State, indices: jax.Array) -> tuple[State, None]:
        parameters, first, second, count = state
        x = data[indices].astype(jnp.float32) / 255
        gradients = jax.grad(loss)(parameters, x)
        count = count + 1
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
        rate = RATE * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        parameters = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), parameters, first, second)
        return (parameters, first, second, count), None

    @jax.jit
    def whole_epoch(state: State, key: jax.Array) -> State:
        order = jax.random.permutation(key, len(images))[: steps * BATCH].reshape(steps, BATCH)
        return jax.lax.scan(step, state, order)[0]

    zeros = jax.tree.map(jnp.zeros_like, parameters)
    held = {"state": (parameters, zeros, zeros, jnp.float32(0)), "key": jax.random.key(0)}

    def epoch() -> None:
        held["key"], key = jax.random.split(held["key"])
        held["state"] = jax.block_until_ready(whole_epoch(held["state"], key))

    return epoch


def keras_fit(images: np.ndarray) -> Epoch:
    """Return Keras 3: a tied layer of one's own and ``fit()``, on the backend that ``KERAS_BACKEND`` names."""
    import keras

    class Transposed(keras.layers.Layer):
        """A dense layer with another one's transposed kernel."""

        def __init__(self, dense: keras.layers.Dense, activation: str) -> None:
            super().__init__()
            self.dense = dense
            self.activation = keras.activations.get(activation)

        def build(self, shape: tuple[int, ...]) -> None:
            self.bias = self.add_weight(shape=(self.dense.kernel.shape[0],), initializer="zeros")

        def call(self, x: object) -> object:
            return self.activation(keras.ops.matmul(x, keras.ops.transpose(self.dense.kernel)) + self.bias)

    keras.utils.set_random_seed(0)
    dense = [
        keras.layers.Dense(
            units, activation="elu", kernel_initializer="he_normal", kernel_regularizer=keras.regularizers.L2(L2 / 2)
        )
        for units in SIZES[1:]
    ]
    inputs = keras.Input((SIZES[0],))
    code = dense[1](dense[0](inputs))
    model = keras.Model(inputs, Transposed(dense[0], "linear")(Transposed(dense[1], "elu")(code)))
    model.compile(optimizer=keras.optimizers.Adam(RATE), loss="mse")
    x = images[: len(images) // BATCH * BATCH].astype(np.float32) / 255
    return lambda: model.fit(x, x, batch_size=BATCH, epochs=1, shuffle=True, verbose=0) and None
