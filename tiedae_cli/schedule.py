"""The learning rate and the order of the images as pure functions of the position, so that resuming needs no state."""

import math

import torch
from torch import Tensor

from tiedae_cli.config import TrainingConfig

RISE, START, END = 0.3, 25.0, 1e4  # one-cycle: the part that rises, and what the rate is divided by at its start and end


def learning_rate(training: TrainingConfig, step: int, steps: int) -> float:
    """Return the learning rate of a step, 0 <= step < steps, of the whole training.

    ``one_cycle`` is Smith & Topin 2018 ("Super-convergence") with cosine flanks: from rate / 25 up to rate, then down to rate / 250,000.
    """
    peak, progress = training.learning_rate, step / max(1, steps - 1)
    if training.schedule == "one_cycle":
        if progress < RISE:
            return _cosine(peak / START, peak, progress / RISE)
        return _cosine(peak, peak / START / END, (progress - RISE) / (1 - RISE))
    warm_steps = training.warmup * steps
    if step < warm_steps:
        return peak * (step + 1) / (warm_steps + 1)
    if training.schedule == "cosine":
        return _cosine(peak, 0.0, (step - warm_steps) / max(1.0, steps - warm_steps))
    return peak


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def seeded(*numbers: int) -> torch.Generator:
    """Return a generator whose stream is a function of the numbers (a seed, then what tells the streams apart)."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:  # splitmix64 (Steele, Lea & Flood 2014): neighbouring numbers give unrelated seeds
        state = (state ^ number) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
        state ^= state >> 27
        state = state * 0x94D049BB133111EB & (2**64 - 1)
        state ^= state >> 31
    return torch.Generator().manual_seed(state)


def epoch_order(seed: int, epoch: int, images: int) -> Tensor:
    """Return the order in which an epoch visits the images: a permutation, (N,) int64, drawn on the CPU for every device.

    It is a full permutation also where the images are memory-mapped: every order is equally likely, blocks are not shuffled.
    Reading is then random access into the map, and the order takes 8 bytes an image.
    """
    return torch.randperm(images, generator=seeded(seed, 1, epoch))
