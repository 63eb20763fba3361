"""How every command reads data: of a config or of a trained model, the terminal telling what is inferred and how far slow work is."""

from pathlib import Path

from tiedae_cli.config import Config, DataConfig
from tiedae_cli.data import Splits, load_splits
from tiedae_cli.errors import ConfigError
from tiedae_cli.output.terminal import Terminal
from tiedae_cli.runs.checkpoint import Checkpoint


def load_told(data: DataConfig, terminal: Terminal) -> Splits:
    """Load the data that a config's section names.

    Raises:
        DataError: it is missing, damaged or of no use.
        ConfigError: a field does not go with this data.
    """
    with terminal.draws_progress():
        return load_splits(data)


def data_to_train_on(config: Config, terminal: Terminal) -> Splits:
    """Load a config's data.

    Raises:
        DataError: the data is missing, damaged or of no use.
        ConfigError: the data and the config do not go together.
    """
    splits = load_told(config.data, terminal)
    if splits.form.kind == "vectors" and config.model.output == "sigmoid":
        raise ConfigError(
            "model.output: sigmoid stays in [0, 1], but features are standardised (mean 0, deviation 1): use linear"
        )
    if splits.form.kind == "vectors" and config.training.shift:
        raise ConfigError(f"training.shift: moves images; {splits.source} holds {splits.form.describe()}")
    return splits


def data_of_model(trained: Checkpoint, path: Path, terminal: Terminal) -> Splits:
    """Load the data that a model was trained on, as the model sees it: feature vectors by the statistics of its own training.

    Args:
        trained: the checkpoint.
        path: its file, for messages.
        terminal: where reports go.

    Raises:
        DataError: the data is missing, damaged, or not of the model's form any more.
    """
    return load_told(trained.config.data, terminal).for_model(trained.form, str(path))
