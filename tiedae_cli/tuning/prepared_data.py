"""The data of all trials and its PCA, each prepared once, and the errors of each code size beside PCA's."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from tiedae_cli.config import Config, DataConfig
from tiedae_cli.config.grid import CODE_SIZE, SEED, plain
from tiedae_cli.data.item_set import ItemForm, Splits
from tiedae_cli.errors import ConfigError
from tiedae_cli.model import pca
from tiedae_cli.model.autoencoder import build_autoencoder
from tiedae_cli.model.rate_distortion import Curve, Point, RateDistortion
from tiedae_cli.model.verdict import EXACT
from tiedae_cli.runs.trials import TrialResult

LISTS = ("model.hidden_sizes", "model.layers")  # their last entry is the code


class PreparedData:
    """The splits of a config and PCA of its training items.

    Args:
        config: the config.
        load: loads what its data section asks for.
        split: the split that the curve shows, besides validation.
        largest: code size of all trials, which limits PCA if it cannot be exact.

    Raises:
        ConfigError: there are no validation items to choose by.
        DataError: the data is missing or damaged, or has no items in this split.
    """

    def __init__(
        self, config: Config, load: Callable[[DataConfig], Splits], split: str, largest: Callable[[ItemForm], int]
    ) -> None:
        self.splits, self.split = load(config.data), split
        if not len(self.splits.validation):
            raise ConfigError("data.validation: 0, but tune chooses by validation items; give a count or a fraction")
        self.splits.filled(split)
        train, form = self.splits.train, self.splits.form
        most = min(len(train), form.values_per_item)
        self._components = pca.fit(train, most if most <= pca.LARGEST_EXACT else min(most, 2 * largest(form)))
        self.validation = self._errors("validation")
        self.shown = self.validation if split == "validation" else self._errors(split)

    @property
    def value_name(self) -> str:
        """Name of one value of an item."""
        return self.splits.form.value_name

    def _errors(self, split: str) -> tuple[float, ...]:
        """Return PCA's errors with 0, 1, 2 ... components."""
        return tuple(pca.error_curve(self.splits.get(split), self._components).tolist())

    def pca_error(self, size: int) -> float | None:
        """Return PCA's validation error with as many numbers as a code; None if PCA is exact."""
        error = self.validation[min(size, len(self.validation) - 1)]
        return error if error > EXACT * self.validation[0] else None

    def groups(self, results: Iterable[TrialResult]) -> dict[tuple[str, int], list[TrialResult]]:
        """Return the results that differ only in their seeds, by the settings that are neither size nor seed, and by code size."""
        found: dict[tuple[str, int], list[TrialResult]] = {}
        for result in results:
            key = _label(result.trial.settings.items()), code_size(result.trial.config, self.splits.form)
            found.setdefault(key, []).append(result)
        return found

    def rate_distortion(self, results: Iterable[TrialResult], error: Callable[[TrialResult], float]) -> RateDistortion:
        """Return the errors of each code size, a curve for each combination of the settings that are neither size nor seed.

        Args:
            results: of trials that have finished.
            error: returns a result's error on the split that the curve shows.
        """
        curves: dict[str, list[Point]] = {}
        for (label, size), group in sorted(self.groups(results).items(), key=lambda item: item[0][1]):
            curves.setdefault(label, []).append(Point(size, tuple(map(error, group))))
        found = tuple(Curve(label, tuple(points)) for label, points in curves.items())
        return RateDistortion(found, self.shown, self.split, self.splits.form.value_name)


def code_size(config: Config, form: ItemForm) -> int:
    """Return how many numbers the code of a config has."""
    size = config.model.encoder[-1].size
    if size is None:  # a convolution: it depends on the image
        with torch.device("meta"):
            size = build_autoencoder(form.shape, config.model).sizes[-1]
    return size


def _label(settings: Iterable[tuple[str, Any]]) -> str:
    """Return the settings that are neither code size nor seed as people type them."""
    skipped = (".".join(CODE_SIZE), ".".join(SEED))
    kept = [(key, value[:-1] if key in LISTS and value else value) for key, value in settings if key not in skipped]
    return " ".join(f"{key.rpartition('.')[2]}={plain(value)}" for key, value in kept if _is_given(value))


def _is_given(value: object) -> bool:
    return not (isinstance(value, Sequence) and not value)
