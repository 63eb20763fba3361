"""Random streams that are functions of a seed and a purpose, so that resuming needs no generator state."""

import torch
from torch import Tensor

# The purpose of each stream of a seed; a new purpose takes a new number, so that all streams differ.
WEIGHTS, ORDER, SHIFTS, CORRUPTION, EVALUATION_NOISE, FLIPS, SEARCH = range(7)


def seeded(*numbers: int) -> torch.Generator:
    """Return a generator with a stream that depends only on the numbers (a seed, then the purpose and its indices)."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:  # splitmix64 (Steele, Lea & Flood 2014): neighboring numbers give unrelated seeds
        state = (state ^ number) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
        state ^= state >> 27
        state = state * 0x94D049BB133111EB & (2**64 - 1)
        state ^= state >> 31
    return torch.Generator().manual_seed(state)


def epoch_order(seed: int, epoch: int, items: int) -> Tensor:
    """Return the order in which an epoch visits the items: a permutation, (N,) int64, drawn on the CPU for every device.

    Every order is equally likely. It takes 8 bytes per item.
    """
    return torch.randperm(items, generator=seeded(seed, ORDER, epoch))


def block_order(seed: int, epoch: int, items: int, block: int, window: int) -> Tensor:
    """Return an order, (N,) int64: blocks of neighboring items in random order, shuffled within each ``window`` blocks."""
    generator = seeded(seed, ORDER, epoch)
    blocks = torch.arange(0, items, block)[torch.randperm(-(-items // block), generator=generator)]  # first items
    order = (blocks[:, None] + torch.arange(block)).view(-1)
    order = order[order < items]  # the last block may be short
    parts = [part[torch.randperm(len(part), generator=generator)] for part in torch.split(order, block * window)]
    return torch.cat(parts)
