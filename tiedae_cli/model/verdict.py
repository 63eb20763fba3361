"""Describe an error in words, compared with PCA and with always answering the mean; plain numbers, no tensors.

Errors are mean squared errors per value, all of the same items. D is the number of values per item.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

EXACT = 1e-9  # PCA's error relative to the mean's; below it, PCA's error is only rounding
CLOSE = 1.05  # ratio below which a percentage is more telling
SAME = 0.005  # relative difference below which two errors are called equal
LARGE_PENALTY = 0.25  # fraction of the error above which the penalty is a likely cause
UNUSED_SHARE = 0.25  # of the code's units
STILL_HIGH = 0.5  # of the peak learning rate
FALLING = 0.98  # last error, relative to that of the middle epoch
LONGER = 5  # times as many epochs for a training that was too short


@dataclass(frozen=True)
class Errors:
    """One model's error and its baselines."""

    model: float
    pca: float
    """Of the stronger baseline: PCA, or for images PCA clipped to [0, 1]."""
    mean: float
    """Error of always answering the mean of the training split."""
    components: int
    """K of PCA."""
    code_size: int
    values: int
    """D"""
    value_name: str = "pixel"
    history: tuple[float, ...] = ()
    """The model's error after each epoch; empty if it is not known."""
    clipped: bool = False
    """Whether ``pca`` is the error of PCA with its answers clipped to [0, 1]."""

    @property
    def is_compressed(self) -> bool:
        """Whether the code is smaller than the item."""
        return self.code_size < self.values

    @property
    def pca_is_exact(self) -> bool:
        """Whether PCA's error is only rounding, so that a ratio to it is meaningless."""
        return self.components >= self.values or self.pca <= EXACT * self.mean

    @property
    def is_useless(self) -> bool:
        """Whether the model does no better than always answering the mean."""
        return self.mean > 0 and not self.model < self.mean * (1 - SAME / 10)

    @property
    def is_falling(self) -> bool:
        """Whether the error was still falling when the training ended; a single epoch counts as falling."""
        return (
            len(self.history) == 1
            or bool(self.history)
            and self.history[-1] < FALLING * self.history[(len(self.history) - 1) // 2]
        )


def sentence(errors: Errors) -> str:
    """Return a model's error compared with PCA's or the mean's, without a full stop."""
    parts = [f"MSE {errors.model:.6f} per {errors.value_name}{_beside(errors)}"]
    if not errors.is_compressed:
        code, values = f"the code ({errors.code_size:,})", f"the data ({errors.values:,} {errors.value_name}s)"
        exact = "PCA is exact, " if errors.pca_is_exact else ""
        parts.append(f"{code} is not smaller than {values}: {exact}nothing is compressed")
    elif errors.pca_is_exact:
        parts.append(f"PCA with {_numbers(errors)} is exact, so there is no ratio to it")
    return "; ".join(parts)


def explained(errors: Errors) -> str:
    """Return how much of the variance PCA explains, and how much more the model does; empty if there is no variance.

    For models with a linear path, which start as PCA.
    """
    if not errors.mean > 0:
        return ""
    by_pca, more = 1 - errors.pca / errors.mean, (errors.pca - errors.model) / errors.mean
    baseline = "PCA clipped to [0, 1]" if errors.clipped else "PCA"
    return f"{baseline} explains {by_pca:.1%} of the variance, the model {abs(more):.1%} {'more' if more >= 0 else 'less'}"


def _beside(errors: Errors) -> str:
    """Return ", 2.1 times less than PCA ..." or ", worse than ..."; empty if PCA is exact."""
    if errors.is_useless:
        return f", {_useless(errors)}"
    if errors.pca_is_exact:
        return ""
    baseline = "PCA clipped to [0, 1]" if errors.clipped else "PCA"
    return f", {ratio(errors.model, errors.pca)} {baseline} with {_numbers(errors)} ({errors.pca:.6f})"


def ratio(error: float, pca: float) -> str:
    """Return "2.1 times less than", "3% more than" or "as much as"; PCA must not be exact."""
    less = error < pca
    times, share = pca / max(error, 1e-12) if less else error / pca, f"{abs(error / pca - 1):.0%}"
    how_much = f"{times:,.1f} times" if times >= CLOSE else share
    return "as much as" if how_much == "0%" else f"{how_much} {'less' if less else 'more'} than"


def _useless(errors: Errors) -> str:
    stands = "no better than" if math.isclose(errors.model, errors.mean, rel_tol=SAME) else "worse than"
    if errors.is_falling:
        reason = ": the training was too short, the error was still falling"
    else:
        reason = ": the training failed, usually because a learning rate that is too high leaves units saturated or dead"
    return f"{stands} always answering the mean ({errors.mean:.6f}){reason if errors.history else ''}"


def _numbers(errors: Errors) -> str:
    same = "the same " if errors.components == errors.code_size else ""
    return f"{same}{errors.components:,} number{'s' * (errors.components != 1)}"


@dataclass(frozen=True)
class Training:
    """Facts about a finished training that may explain an error above PCA's."""

    penalty: float
    """The L2 term of the loss."""
    reconstruction: float
    """The reconstruction error in the loss, in the same unit."""
    unused_units: int
    """Code units that give the same value for every item."""
    code_size: int
    last_rate: float
    """Learning rate of the last epoch."""
    peak_rate: float
    schedule: str


def advice(errors: Errors, training: Training, config: str) -> str:
    """Return the likely causes of an error above PCA's and the line to try; empty if there is nothing to explain.

    Args:
        errors: errors of the best epoch.
        training: facts about the training.
        config: the config's path, quoted for the shell.
    """
    if errors.pca_is_exact and not errors.is_useless:
        return ""
    if errors.is_useless:
        longer, slower = f"epochs={LONGER * len(errors.history)}", f"learning_rate={training.peak_rate / 10:g}"
        return f"try: tiedae train {config} {longer if errors.is_falling else slower}"
    if errors.model < errors.pca * CLOSE:
        return ""
    causes = list(_causes(training))
    if not causes:
        return ""
    reasons, keys = zip(*causes, strict=True)
    return (
        f"likely {_plural('cause', causes)}: {'; '.join(reasons)}\ntry: tiedae train {config} {' '.join(dict.fromkeys(keys))}"
    )


def _causes(training: Training) -> Sequence[tuple[str, str]]:
    """Return each cause with the key to change."""
    causes = []
    if training.penalty > LARGE_PENALTY * training.reconstruction:
        beside = f"{training.penalty:.3g} in the loss, beside a reconstruction error of {training.reconstruction:.3g}"
        causes.append((f"the L2 penalty is {beside}", "l2=0"))
    if training.unused_units >= UNUSED_SHARE * training.code_size:
        unused = f"{training.unused_units:,} of {training.code_size:,} code units give the same value for every item"
        key = "l2=0" if training.penalty > 0 else f"learning_rate={training.peak_rate / 10:g}"
        causes.append((unused, key))
    if training.last_rate > STILL_HIGH * training.peak_rate:
        high = f"the learning rate is still {training.last_rate:g} at the end"
        causes.append((high, "schedule=cosine"))
    return causes


def _plural(word: str, things: Sequence[object]) -> str:
    return word if len(things) == 1 else f"{word}s"
