"""What the words after ``tiedae train`` and ``tiedae tune`` mean: a config, data to train on, keys of the config, or a run to resume."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tiedae_cli.cli.loose_words import refuse_loose_words
from tiedae_cli.config import keys
from tiedae_cli.config.problems import suggestion
from tiedae_cli.config.samples import find_config, run_name, run_name_of_data, sample_configs
from tiedae_cli.config.shareable import is_url, public_url
from tiedae_cli.config.yaml_reader import load_config
from tiedae_cli.errors import ConfigError, InputError
from tiedae_cli.system.portability import quoted

DATASET = "data.dataset"
YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class TrainRequest:
    """What a command line asks to train."""

    config: Path | None
    """The YAML file; None if a run is resumed with its own config."""
    assignments: list[str]
    """``KEY=VALUE``; a later one overrides an earlier one."""
    name: str | None
    """Name of the run: that of the data on the command line, else that of the config."""
    run: str | None = None
    """With ``--resume``: the run to resume."""
    notes: tuple[str, ...] = ()
    """Notes for the user: choices that were made, and keys with another name here."""


def parse_train_request(
    words: Sequence[str], config: str | None, assignments: Sequence[str], resume: bool, command: str = "train"
) -> TrainRequest:
    """Return what a command line asks to train.

    Args:
        words: at most one config and one data set, and any number of ``KEY=VALUE``.
        config: ``--config``.
        assignments: ``--set`` and the options that are keys.
        resume: whether a word is a run instead.
        command: ``train`` or ``tune``, for the lines to type.

    Raises:
        InputError: a word has no meaning, or two words mean the same thing; the message says what to type.
    """
    if not resume:
        _refuse_loose(words, config, assignments, command)
    plain = [word for word in words if keys.assignment(word) is None or os.path.exists(word)]
    given = [word for word in words if word not in plain] + list(assignments)
    if resume:
        if len(plain) > 1:
            raise InputError(
                f"--resume {' '.join(plain)}: only one run can be resumed at a time: tiedae train --resume {quoted(plain[0])}"
            )
        path = None if config is None else find_config(config)
        name = None if path is None else _name(path, given)
        return TrainRequest(path, given, name, plain[0] if plain else None, tuple(keys.real_names(given)))
    notes, chosen, data = keys.real_names(given), config, list[str]()
    for word in plain:
        kind, sample = _meaning(word)
        if kind == "config":
            if chosen is not None:
                raise InputError(
                    f"{word}: a second config beside {chosen}; expected one, and keys: tiedae {command} {chosen} epochs=10"
                )
            chosen = word
            continue
        if any(keys.find_key(text.partition("=")[0]) == ("data", "dataset") for text in given):
            raise InputError(f"{word}: a second data set; expected one")
        data.append(word)
        if config is None and chosen is None and not any(_meaning(other)[0] == "config" for other in plain if other != word):
            chosen = sample
            notes.append(f"{public_url(word)}: trained with the sample config {sample} (tiedae configs {sample} shows it)")
    if data:
        given.insert(0, f"{DATASET}={_dataset(data)}")
    path = find_config(chosen or "digits")
    _refuse_placeholder(path, given, command)
    return TrainRequest(path, given, _name(path, given), notes=tuple(notes))


def _dataset(words: Sequence[str]) -> str:
    """Return the value of ``data.dataset`` for the data of a command line.

    Raises:
        InputError: there are several that are not all tables.
    """
    from tiedae_cli.config import DataConfig
    from tiedae_cli.data.sources.detection import table_files

    other = None if len(words) == 1 else next((word for word in words if table_files(word, DataConfig()) is None), None)
    if other is not None:
        raise InputError(f"{other}: a second data set; several files are read as one only if all are tables")
    return words[0] if len(words) == 1 and words[0][:1] not in ("[", "{", "'", '"') else json.dumps(list(words))


def _refuse_loose(words: Sequence[str], config: str | None, assignments: Sequence[str], command: str) -> None:
    """Refuse assignments that were written apart, such as ``epochs = 3``."""
    from tiedae_cli.data.load_data import data_set_names

    others = [*([] if config is None else ["--config", config]), *assignments]
    refuse_loose_words(words, [*sample_configs(), *data_set_names()], others, command)


def _refuse_placeholder(path: Path, assignments: Sequence[str], command: str) -> None:
    """Refuse a sample config for the user's own data if no data was named."""
    samples = sample_configs()
    if samples.get(path.stem) != path or any(
        keys.find_key(text.partition("=")[0]) == ("data", "dataset") for text in assignments
    ):
        return
    dataset = load_config(path).data.sources[0]
    if dataset not in samples and not os.path.exists(dataset):
        raise InputError(
            f"{path.stem}: trains on your own data, and {dataset} does not exist; type: tiedae {command} {path.stem} PATH"
        )


def _name(path: Path, assignments: Sequence[str]) -> str:
    """Return the name of a new run."""
    for text in reversed(assignments):
        pair = keys.assignment(text)
        if pair is not None and keys.find_key(pair[0]) == ("data", "dataset"):
            several = json.loads(pair[1]) if pair[1].startswith('["') and pair[1].endswith('"]') else pair[1]
            return run_name_of_data(several)
    return run_name(path)


def _meaning(word: str) -> tuple[str, str]:
    """Return ``config``, or ``data`` and the sample config that fits it.

    Raises:
        InputError: the word is neither.
    """
    path = Path(os.path.expanduser(word))
    if word == "-" or word.lower() in sample_configs() or path.suffix.lower() in YAML:
        return "config", ""
    from tiedae_cli.data.load_data import data_set_name
    from tiedae_cli.data.sources.table_files import is_glob

    name = data_set_name(word)
    if name is not None:
        return "data", "mnist-best"
    if is_url(word):
        from tiedae_cli.data.sources.remote import local_copy

        return "data", _sample_for(local_copy(word))
    if path.is_dir():
        if any((path / f"{file}.safetensors").exists() for file in ("last", "best")):
            raise InputError(
                f"{word}: a run. To resume it: tiedae train --resume {quoted(word)}; to train the same again: tiedae train "
                f"{quoted(str(Path(word) / 'config.yaml'))}"
            )
    if path.exists():
        return "data", _sample_for(path)
    if is_glob(word):
        return "data", "vectors"
    raise ConfigError(_unknown(word))


def _sample_for(path: Path) -> str:
    """Return the sample config that fits a folder or a file, judged by whether it holds photographs, other images or vectors."""
    from tiedae_cli.data.load_data import holds_images, holds_photographs

    if path.is_dir() and holds_photographs(path):
        return "photographs"
    return "folder" if holds_images(path) else "vectors"


def _unknown(word: str) -> str:
    from tiedae_cli.data.load_data import data_set_names

    known = [*sample_configs(), *data_set_names()]
    if os.sep in word or "." in word:
        return f"{word}: no such file or folder (looked from {os.getcwd()})"
    close = suggestion(word.lower(), known)
    if "did you mean" in close:
        return f"{word}: no config, file or data set of that name{close}"
    return (
        f"{word}: no config, file or data set of that name; name a sample config ({', '.join(sample_configs())}), a YAML file, a "
        "folder of images or a table; keys are set with KEY=VALUE"
    )
