"""The config of a run: checkpoints name paths by their last parts, and ``config.yaml`` in the run folder alone has them in full."""

from pathlib import Path

from tiedae_cli.config import Config
from tiedae_cli.config.shareable import last_part, without_folders
from tiedae_cli.config.yaml_reader import changed_fields, load_run_config
from tiedae_cli.data.load_data import is_data_set
from tiedae_cli.data.sources.memory import IN_MEMORY
from tiedae_cli.errors import ConfigError
from tiedae_cli.runs.run_folder import CONFIG

MAY_CHANGE = (
    "training.epochs",
    "training.checkpoint_every",
    "training.early_stopping",
    "data.root",
    "output.runs",
    "output.images",
    "output.report",
    "output.trackers",
)


def config_in_folder(path: Path, config: Config) -> Config | None:
    """Return the config of a checkpoint with the paths that ``config.yaml`` in its folder has; None if there is no such file.

    Args:
        path: the checkpoint.
        config: the one inside it.

    Raises:
        ConfigError: ``config.yaml`` is invalid, or differs in more than the folders and what ``--resume`` may change.
    """
    file = path.parent / CONFIG
    if not file.is_file():
        return None
    written = load_run_config(file)
    if differences := refused_changes(config, written):
        changes = ", ".join(differences)
        raise ConfigError(f"{file}: not the config of {path.name}: {changes}")
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"dataset": written.data.dataset, "root": written.data.root}),
            "training": config.training.model_copy(update={"init_from": written.training.init_from}),
            "output": config.output.model_copy(update={"runs": written.output.runs}),
        }
    )


def refused_changes(old: Config, new: Config) -> list[str]:
    """Return ``key: old -> new`` for each key that a run must keep and two configs differ in; folders of paths do not count."""
    changes = changed_fields(without_folders(old), without_folders(new))
    return [change for change in changes if change.partition(":")[0] not in MAY_CHANGE]


def has_path(config: Config) -> bool:
    """Return whether the data of a config lies at a path; else it is a data set of that name, or was in memory."""
    return config.data.dataset != IN_MEMORY and not all(map(is_data_set, config.data.sources))


def given_away(config: Config) -> Config:
    """Return a config as a checkpoint holds it: without folders. A path whose last part is the name of a data set keeps ``./``."""
    shared, (name, *others) = without_folders(config), config.data.sources
    if others or is_data_set(name) or not is_data_set(last_part(name)):
        return shared
    return shared.model_copy(update={"data": shared.data.model_copy(update={"dataset": f"./{last_part(name)}"})})
