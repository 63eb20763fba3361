"""Time one step of a network of tied convolutions: the bare calls of its products, tiedae, and the same network with plain autograd.

    python benchmarks/convolutions.py [--rounds 15] [--batch-size 128] [--dtype bfloat16] [--json]

All take turns in one process, and ratios are taken round by round, so that a machine whose speed drifts treats all alike. The bare
calls are `convolution` and `convolution_backward` (and the dense products) on tensors that lie as they are fastest, each gradient that
the step needs once, and nothing else: no activation, no loss, no sum over the two uses of a weight, no optimizer.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from tiedae_cli.config import ModelConfig
from tiedae_cli.model.autoencoder import TiedAutoencoder, build_autoencoder
from tiedae_cli.model.layers import Convolution
from tiedae_cli.system.random_streams import seeded
from tiedae_cli.training.step.gradient import Gradient
from tiedae_cli.training.step.parameters import FlatParameters

SHAPE = (3, 32, 32)
WORDS = ("conv 48 4 2", "conv 96 4 2", "conv 128 4 2", "dense 128")
CONVOLUTION, BACKWARD = torch.ops.aten.convolution, torch.ops.aten.convolution_backward
Step = Callable[[], object]


def network() -> TiedAutoencoder:
    """Return the network, with the same weights each time."""
    return build_autoencoder(SHAPE, ModelConfig(layers=WORDS, activation="silu"), seeded(1))


def by_hand(x: Tensor, dtype: torch.dtype) -> Step:
    """Return tiedae's own gradient."""
    model = network()
    gradient = Gradient(model, FlatParameters(model, dtype), len(x), "squared_error", len(x))
    gradient.input.copy_(x)
    return gradient.run


def plain(x: Tensor, dtype: torch.dtype) -> Step:
    """Return what people write: the model's own forward pass, the loss, and autograd."""
    model, x = network().to(dtype), x.to(dtype)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        (model(x) - x).square().sum(1).mean().backward()

    return step


def textbook(x: Tensor, dtype: torch.dtype) -> Step:
    """Return the same with torch's functions and images as they lie, channels first."""
    model, images = network().to(dtype), x.to(dtype).view(-1, *SHAPE)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        h = images
        for layer in model.layers[:-1]:
            h = F.silu(F.conv2d(h, layer.weight, layer.encoder_bias, 2, 1))
        last = model.layers[-1]
        code = F.silu(F.linear(h.flatten(1), last.weight, last.encoder_bias))
        h = F.silu(F.linear(code, last.weight.t(), last.decoder_bias)).view(h.shape)
        for index, layer in reversed(list(enumerate(model.layers[:-1]))):
            h = F.conv_transpose2d(h, layer.weight, layer.decoder_bias, 2, 1)
            h = F.silu(h) if index else h
        (h - images).square().flatten(1).sum(1).mean().backward()  # type: ignore[no-untyped-call]

    return step


def bare(x: Tensor, dtype: torch.dtype) -> Step:
    """Return the calls of the products alone."""
    calls: list[Step] = []
    for index, layer in enumerate(network().layers):
        below, above = (layer.buffer(len(x), shape, x.to(dtype)).normal_() for shape in (layer.input_shape, layer.output_shape))
        weight = layer.weight.detach().to(dtype)
        up, down = (bias.detach().to(dtype) for bias in (layer.encoder_bias, layer.decoder_bias))
        if isinstance(layer, Convolution):
            shape: tuple[object, ...] = ([2, 2], [1, 1], [1, 1])
            calls += [
                partial(CONVOLUTION, below, weight, up, *shape, False, [0, 0], 1),
                partial(CONVOLUTION, above, weight, down, *shape, True, [0, 0], 1),
                partial(BACKWARD, above, below, weight, [len(up)], *shape, False, [0, 0], 1, [index > 0, True, True]),
                partial(BACKWARD, below, above, weight, [len(down)], *shape, True, [0, 0], 1, [True, True, True]),
            ]
        else:
            calls += [
                partial(torch.addmm, up, below, weight.t()),
                partial(torch.addmm, down, above, weight),
                partial(torch.mm, below, weight.t()),
                partial(torch.mm, above, weight),
                *[partial(torch.mm, above.t(), below)] * 2,
            ]

    def step() -> None:
        for call in calls:
            call()

    return step


def main() -> None:
    """Parse, time in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    dtype = getattr(torch, arguments.dtype)
    x = torch.rand(arguments.batch_size, 3 * 32 * 32, generator=torch.Generator().manual_seed(0))
    makers = {"bare calls": bare, "tiedae": by_hand, "autograd": plain, "autograd, channels first": textbook}
    steps = {name: make(x, dtype) for name, make in makers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(arguments.rounds + 2):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if number > 1:
                seconds[name].append(time.perf_counter() - began)
    found = {}
    for name, times in seconds.items():
        ratios = [time / floor for time, floor in zip(times, seconds["bare calls"], strict=True)]
        found[name] = {"seconds": statistics.median(times), "over_bare_calls": statistics.median(ratios)}
    if arguments.json:
        print(json.dumps(found))
        return
    print(
        f"{', '.join(WORDS)} on {arguments.batch_size} images of 32 x 32 x 3, {arguments.dtype}, {torch.get_num_threads()} threads"
    )
    for name, result in found.items():
        print(f"{name:>26}  {1000 * result['seconds']:7.1f} ms  {result['over_bare_calls']:5.2f} x bare calls")


if __name__ == "__main__":
    main()
