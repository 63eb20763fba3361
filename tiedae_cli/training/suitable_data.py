"""Load the data of a training; refuse data that the config cannot be trained on."""

import logging
from collections.abc import Callable

from tiedae_cli.config import Config, DataConfig
from tiedae_cli.data.item_set import ItemSet, Splits
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import ConfigError, DataError
from tiedae_cli.model.inference import batch_size

log = logging.getLogger(__name__)

Load = Callable[[DataConfig], Splits]


class LoadedOnce:
    """Loads the data of several trainings, and keeps what it loaded last for the next training with the same data section.

    Args:
        load: loads what a data section asks for.
    """

    def __init__(self, load: Load = load_splits) -> None:
        self._load = load
        self._last: tuple[DataConfig, Splits] | None = None

    def __call__(self, config: DataConfig) -> Splits:
        """Return the splits of a data section."""
        if self._last is None or self._last[0] != config:
            self._last = None  # before another data set takes memory
            self._last = config, self._load(config)
        return self._last[1]


def data_to_train_on(config: Config, load: Load = load_splits) -> Splits:
    """Load a config's data.

    Args:
        config: the whole config.
        load: loads what its data section asks for.

    Raises:
        DataError: The data is missing, damaged or useless, such as identical rows.
        ConfigError: The config does not fit the data.
    """
    splits = load(config.data)
    if splits.form.kind == "vectors" and config.model.output != "linear":
        raise ConfigError(
            f"model.output: {config.model.output} stays in [0, 1], but features are standardized (mean 0, deviation 1): use linear"
        )
    _note_too_few_components(config, splits)
    _note_narrow_layer(config)
    if splits.form.kind == "vectors" and any(words.takes_images for words in config.model.encoder):
        raise ConfigError(f"model.layers: convolutions need images; {splits.source} holds {splits.form.describe()}: use dense")
    for key, what in (("shift", "moves"), ("flip", "mirrors")):
        if splits.form.kind == "vectors" and getattr(config.training, key):
            raise ConfigError(f"training.{key}: {what} images; {splits.source} holds {splits.form.describe()}")
    if splits.form.kind == "vectors" and splits.train.led(lambda: _all_alike(splits.train)):
        count = (
            f"all {len(splits.train):,} training items are identical"
            if len(splits.train) > 1
            else "there is only one training item"
        )
        raise DataError(f"{splits.source}: {count}; training needs items that differ")
    return splits


def _note_too_few_components(config: Config, splits: Splits) -> None:
    """Log if ``model.linear_path`` has more numbers than there are principal components, which leaves nothing to compress."""
    size, available = config.model.encoder[-1].size or 0, min(splits.form.values_per_item, len(splits.train))
    if config.model.linear_path != "none" and size > available:
        what = f"{len(splits.train):,} training items of {splits.form.values_per_item:,} values"
        rest = f"{what} have only {available:,} principal components, so {size - available:,} of the code's {size:,} numbers start at 0"
        log.warning(f"model.linear_path: {rest}; a smaller code would do")


def _note_narrow_layer(config: Config) -> None:
    """Log if the layer before a dense code is smaller than the code, because that layer then limits what the code can hold."""
    sizes = [words.size for words in config.model.encoder[-2:]]
    if len(sizes) == 2 and sizes[0] and sizes[1] and sizes[0] < sizes[1]:
        log.warning(f"the code ({sizes[1]:,} numbers) is larger than the layer before it ({sizes[0]:,} units), which limits it")


def _all_alike(items: ItemSet) -> bool:
    """Return whether all items equal the first one; stop reading at the first block that differs."""
    first, size = items.batch(0, 1), batch_size(items)
    return all(bool((items.batch(i, i + size) == first).all()) for i in range(0, len(items), size))
