"""The data that a training starts on: loaded, and refused if the config cannot be trained on it."""

from tiedae_cli.config import Config
from tiedae_cli.data.item_set import ItemSet, Splits
from tiedae_cli.data.load_data import load_memory, load_splits
from tiedae_cli.data.sources.memory import MemoryData
from tiedae_cli.errors import ConfigError, DataError
from tiedae_cli.model.inference import batch_size


def data_to_train_on(config: Config, may_fill_root: bool = True, memory: MemoryData | None = None) -> Splits:
    """Load a config's data.

    Args:
        config: the config.
        may_fill_root: as in ``load_splits``.
        memory: data in memory, in place of what the config names.

    Raises:
        DataError: the data is missing, damaged or of no use, such as rows that are all alike.
        ConfigError: the data and the config do not go together.
    """
    splits = load_splits(config.data, may_fill_root) if memory is None else load_memory(memory, config.data)
    if splits.form.kind == "vectors" and config.model.output == "sigmoid":
        raise ConfigError(
            "model.output: sigmoid stays in [0, 1], but features are standardized (mean 0, deviation 1): use linear"
        )
    if splits.form.kind == "vectors" and any(words.takes_images for words in config.model.encoder):
        raise ConfigError(
            f"model.layers: convolutions look at neighboring pixels; {splits.source} holds {splits.form.describe()}: use dense"
        )
    for key, what in (("shift", "moves"), ("flip", "mirrors")):
        if splits.form.kind == "vectors" and getattr(config.training, key):
            raise ConfigError(f"training.{key}: {what} images; {splits.source} holds {splits.form.describe()}")
    if splits.form.kind == "vectors" and _all_alike(splits.train):
        count = (
            f"all {len(splits.train):,} training items are alike" if len(splits.train) > 1 else "only one item is for training"
        )
        raise DataError(f"{splits.source}: {count}: there is nothing to learn from them")
    return splits


def _all_alike(items: ItemSet) -> bool:
    """Return whether no item differs from the first one; a few are read where the second one differs."""
    first, size = items.batch(0, 1), batch_size(items)
    return all(bool((items.batch(i, i + size) == first).all()) for i in range(0, len(items), size))
