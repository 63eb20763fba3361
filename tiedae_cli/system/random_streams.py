"""Everything random is a function of a seed and what tells its streams apart, so that resuming needs no state of a generator."""

import torch
from torch import Tensor

# What tells the streams of one seed apart; a new use takes a new number, so that no two draw the same.
WEIGHTS, ORDER, SHIFTS, CORRUPTION, EVALUATION_NOISE, FLIPS = range(6)


def seeded(*numbers: int) -> torch.Generator:
    """Return a generator whose stream is a function of the numbers (a seed, then what tells the streams apart)."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:  # splitmix64 (Steele, Lea & Flood 2014): neighboring numbers give unrelated seeds
        state = (state ^ number) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
        state ^= state >> 27
        state = state * 0x94D049BB133111EB & (2**64 - 1)
        state ^= state >> 31
    return torch.Generator().manual_seed(state)


def epoch_order(seed: int, epoch: int, images: int) -> Tensor:
    """Return the order in which an epoch visits the images: a permutation, (N,) int64, drawn on the CPU for every device.

    Every order is equally likely. The order takes 8 bytes an image.
    """
    return torch.randperm(images, generator=seeded(seed, ORDER, epoch))


def block_order(seed: int, epoch: int, images: int, block: int, window: int) -> Tensor:
    """Return an order, (N,) int64: blocks of neighboring images by chance, the images of each ``window`` blocks mixed with each other."""
    generator = seeded(seed, ORDER, epoch)
    blocks = torch.arange(0, images, block)[torch.randperm(-(-images // block), generator=generator)]  # first images
    order = (blocks[:, None] + torch.arange(block)).view(-1)
    order = order[order < images]  # the last block may be short
    parts = [part[torch.randperm(len(part), generator=generator)] for part in torch.split(order, block * window)]
    return torch.cat(parts)
