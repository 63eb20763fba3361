"""The length of a training, and its learning rate as a pure function of the position, so resuming needs no state."""

import math

from tiedae_cli.config import Config, TrainingConfig

RISE, START, END = 0.3, 25.0, 1e4  # one-cycle: the rising fraction, and the divisors of the rate at start and end


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


def in_epochs(config: Config, items: int) -> Config:
    """Return the config with ``training.steps`` converted to whole epochs of ``items`` training items, at least one."""
    training = config.training
    if training.steps is None:
        return config
    steps_per_epoch = items // max(1, min(training.batch_size, items))
    epochs = max(1, round(training.steps / max(1, steps_per_epoch)))
    return config.model_copy(update={"training": training.model_copy(update={"epochs": epochs, "steps": None})})
