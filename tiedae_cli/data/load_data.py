"""Loads the source that a config names as ``Splits`` of ``ItemSet``, whatever its kind."""

import glob
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tiedae_cli.config import DataConfig
from tiedae_cli.config.problems import suggestion
from tiedae_cli.config.shareable import is_url, public_url
from tiedae_cli.data.image_files import first_image, is_color, open_image
from tiedae_cli.data.item_set import SPLITS, ItemSet, Splits
from tiedae_cli.data.partition import normal_only, partition
from tiedae_cli.data.scaling import scaled
from tiedae_cli.data.shares import Processes
from tiedae_cli.data.sources.detection import formats, is_data_file, source_of, suffixes_with, table_files
from tiedae_cli.data.sources.digits import load_digits
from tiedae_cli.data.sources.downloads import DOWNLOADS, files_of, load_download
from tiedae_cli.data.sources.folder import IMAGE_FOLDER
from tiedae_cli.data.sources.matrices import HDF5, MATLAB
from tiedae_cli.data.sources.memory import FIELDS, IN_MEMORY, NAME, MemoryData, memory_parts
from tiedae_cli.data.sources.part import Part
from tiedae_cli.data.sources.remote import local_copy
from tiedae_cli.data.sources.single_image import IMAGE_FILE
from tiedae_cli.data.sources.source import ARRAY, TABLE, ReadOptions
from tiedae_cli.data.sources.table_columns import all_columns, choose_columns
from tiedae_cli.data.sources.table_files import TableFile, is_glob, matches
from tiedae_cli.data.sources.table_folder import TABLE_FOLDER, table_parts
from tiedae_cli.data.sources.table_kinds import TABLE_FIELDS
from tiedae_cli.data.training_sets import shared_out, training_sets
from tiedae_cli.data.windows import windowed
from tiedae_cli.errors import ConfigError, DataError
from tiedae_cli.system.files_in_use import note_input
from tiedae_cli.system.text import HIDDEN

log = logging.getLogger(__name__)

SMALL = 64  # pixels of the longer side, up to which an image without color is a drawing or a digit, not a photograph
SOME_FIELDS = {  # keys of the data section that only some sources know, and these sources
    "root": "data sets that are downloaded",
    "size": "a folder of images",
    "mode": "a folder of images",
    "include": "a folder of images or tables",
    "exclude": "a folder of images or tables",
    "scaling": "feature vectors",
    "missing": "feature vectors",
    "transform": "feature vectors",
    "window": "rows of numbers",
    "stride": "rows of numbers",
    "range": "images in a folder or an array",
    "arrays": f"a file that holds several arrays ({suffixes_with('arrays')})",
    **dict.fromkeys(TABLE_FIELDS, "a table"),
}
FIXED_FIELDS = {  # keys that choose splits; data sets with fixed splits refuse them
    "validation": "cannot be chosen: its splits are fixed",
    "test": "cannot be chosen: it has a test split of its own",
    "split_seed": "is only for a folder or an array: its splits are not drawn",
}


def load_splits(config: DataConfig, may_fill_root: bool = True, processes: Processes | None = None) -> Splits:
    """Load the data set that a config names, or the folder or array at its path; a name wins over a path (``./mnist`` is a path).

    Args:
        config: the data section.
        may_fill_root: whether a download may go to ``data.root``. False if the config comes from a checkpoint, which must not
            choose what is written; downloads then go to the user's cache folder, and no URL is fetched.
        processes: those that load it together, and each hold a share of what is not memory-mapped; None: this process alone.

    Raises:
        DataError: an unknown name, or data that is missing, damaged or unusable; the message names the file.
        ConfigError: a field of the config does not go with this data.
        StorageError: the cache of a folder's images cannot be written.
    """
    if any(map(is_url, config.sources)):
        return _load_urls(config, may_fill_root, processes)
    if len(config.sources) > 1 or is_glob(config.sources[0]):
        return _load_tables(config, processes)
    name = shown_path(config.sources[0])
    if name == IN_MEMORY:
        raise DataError("this model was trained on data in memory, which is not stored with it; name the data")
    note_data(config)
    if is_data_set(name) and os.path.exists(name):
        log.info(f"{name}: the data set of that name; what lies here is ./{name}")
    if name == "digits":
        _refuse_fields(config, name, *FIXED_FIELDS, *(field for field in SOME_FIELDS if field != "root"))
        return normal_only(shared_out(load_digits(), processes), config)
    if name in DOWNLOADS:
        _refuse_fields(config, name, "test", "split_seed", *(field for field in SOME_FIELDS if field != "root"))
        found = load_download(name, config.root and shown_path(config.root), config.validation, may_fill_root)
        return normal_only(shared_out(found, processes), config)
    return _load_path(Path(os.path.expanduser(name)), name, config, processes)


def load_memory(data: MemoryData, config: DataConfig) -> Splits:
    """Do what ``load_splits`` does with data in memory.

    Raises:
        DataError: the data cannot be trained on.
        ConfigError: a field of the config does not go with this data.
        InputError: two splits are of different kinds.
    """
    _refuse_fields(config, NAME, *(field for field in SOME_FIELDS if field not in FIELDS[data.kind]))
    if config.missing == "forward_fill":
        raise ConfigError(
            f"data.missing: {NAME}: forward_fill is only for files; fill in the gaps first, in pandas with X.ffill()"
        )
    parts = memory_parts(data, config)
    _refuse_single_numbers(parts, config)
    range_ = None if data.kind == "images" else config.range  # conversion has done it
    sets = training_sets(parts, NAME, config.missing, range_, config.transform)
    if data.kind == "array":
        sets = _in_layout(parts, sets)
    return _scaled(partition(sets, config, NAME), config)


def _load_urls(config: DataConfig, may_fetch: bool, processes: Processes | None) -> Splits:
    """Load data, some of it from URLs."""
    shown = [public_url(name) for name in config.sources]
    if not may_fetch:
        raise DataError(f"{shown[0]}: a checkpoint does not choose what is fetched; name the data")
    copies = [str(local_copy(name)) if is_url(name) else name for name in config.sources]
    if len(copies) == 1:
        return _load_path(Path(copies[0]), shown[0], config, processes)
    return _load_tables(config.model_copy(update={"dataset": tuple(copies)}), processes)


def _load_tables(config: DataConfig, processes: Processes | None) -> Splits:
    """Load several files of tables as one table."""
    note_data(config)
    name = config.model_copy(update={"dataset": tuple(map(shown_path, config.sources))}).data_name
    _refuse_fields(config, name, *(field for field in SOME_FIELDS if field not in TABLE_FOLDER.fields))
    files = named_tables([shown_path(source) for source in config.sources], config)
    if config.missing == "fill":
        raise ConfigError(f"data.missing: {name}: fill is only for HDF5 files, whose parts may be absent")
    parts = table_parts({"train": files}, name, ReadOptions(lambda table: choose_columns(table, config), config))
    sets = training_sets(parts, name, config.missing, None, config.transform, processes, config.window)
    return _scaled(partition(sets, config, name), config)


def named_tables(names: Sequence[str], config: DataConfig) -> list[TableFile]:
    """Return the files of tables that several names, or a glob pattern, mean.

    Raises:
        DataError: a name is not that of tables, a pattern matches nothing, or a file is named twice.
    """
    files: list[TableFile] = []
    for name in names:
        found = table_files(name, config)
        if found is None and is_glob(name):
            raise DataError(f"data.dataset: {name}: {_no_tables(name)}")
        if found is None and not os.path.exists(os.path.expanduser(name)):
            raise _not_found(name, exists=False)
        if found is None:
            raise DataError(f"data.dataset: {name}: not a table; several files are read as one only if all are tables")
        files += found
    seen: set[str] = set()
    for file in files:
        real = os.path.realpath(file.path)
        if real in seen:
            raise DataError(f"data.dataset: {file.path}: named twice; its rows would count twice")
        seen.add(real)
    return files


def _no_tables(pattern: str) -> str:
    found = matches(pattern)
    if not found:
        return f"no file matches this pattern (looked from {os.getcwd()})"
    return f"matches {found[0]}, which is not a table; for images name their folder, and --set 'data.include=PATTERN'"


def is_there(config: DataConfig) -> bool:
    """Return whether something has the name of the data."""
    names = [name for name in config.sources if not is_url(name)]
    return any(matches(name) if is_glob(name) else os.path.exists(os.path.expanduser(name)) for name in names)


def _load_path(path: Path, name: str, config: DataConfig, processes: Processes | None) -> Splits:
    """Load the file or folder at a path."""
    source = source_of(path) if path.is_file() or path.is_dir() else IMAGE_FILE
    if source is IMAGE_FILE:
        raise _not_found(name, path.exists())
    _refuse_fields(config, name, *(field for field in SOME_FIELDS if field not in source.fields))
    if config.missing == "fill" and source not in (HDF5, MATLAB):
        raise ConfigError(f"data.missing: {name}: fill is only for HDF5 files, whose parts may be absent")
    if config.missing == "forward_fill" and source.group != TABLE:
        raise ConfigError(f"data.missing: {name}: forward_fill is only for tables")
    parts = source.parts(path, ReadOptions(lambda table: choose_columns(table, config), config))
    _refuse_single_numbers(parts, config)
    range_ = None if source is IMAGE_FOLDER else config.range  # of a folder, decoding has done it
    sets = training_sets(parts, str(path), config.missing, range_, config.transform, processes, config.window)
    if source.group == ARRAY:
        sets = _in_layout(parts, sets)
    return _scaled(partition(sets, config, name), config)


def _in_layout(parts: Mapping[str, Part], sets: dict[str, ItemSet]) -> dict[str, ItemSet]:
    """Return sets of images with a form that remembers the layout of the training array."""
    form, shape = next(iter(sets.values())).form, next(iter(parts.values())).shape
    if form.kind != "images" or shape == form.raw_shape:
        return sets
    return {split: replace(items, form=replace(form, source_shape=shape)) for split, items in sets.items()}


def note_data(config: DataConfig) -> None:
    """Note the files of the data that a config names as what this command reads."""
    if config.sources[0] in DOWNLOADS:
        for path in files_of(config.sources[0], config.root and shown_path(config.root)):
            note_input(path)
    elif config.dataset != "digits":
        for name in (name for name in config.sources if not is_url(name)):
            for found in matches(name) if is_glob(name) else [os.path.expanduser(shown_path(name))]:
                note_input(found)


def is_data_set(name: str) -> bool:
    """Return whether a name is that of a bundled or downloaded data set; it goes before a path."""
    return data_set_name(name) is not None


def data_set_name(name: str) -> str | None:
    """Return the data set that a name means, in any case (``MNIST``); None if there is none of that name."""
    return name.lower() if name.lower() in data_set_names() and not (name != name.lower() and os.path.exists(name)) else None


def data_set_names() -> list[str]:
    """Return the names of all bundled and downloaded data sets."""
    return ["digits", *DOWNLOADS]


def holds_images(path: Path) -> bool:
    """Return whether the items of a file or folder are images, not vectors; of an array by its shape alone.

    Raises:
        DataError: it cannot be read, or it is an image file itself.
    """
    source = source_of(path)
    if source is IMAGE_FOLDER or source.group == TABLE:
        return source is IMAGE_FOLDER
    return any(len(part.shape) > 1 for part in source.parts(path, ReadOptions(all_columns)).values())


def holds_photographs(folder: Path) -> bool:
    """Return whether a folder's images are in color or larger than 64 pixels, judged by the first one found."""
    if source_of(folder) is not IMAGE_FOLDER:
        return False
    try:
        first = first_image(folder)
        image = None if first is None else open_image(first)
    except (DataError, OSError):
        return False  # reading them all reports it
    return image is not None and (is_color(image) or max(image.size) > SMALL)


def shown_path(name: str) -> str:
    """Return a path or glob pattern as it is shown and opened: relative if it lies below the working folder."""
    inside = os.path.isabs(name) and os.path.commonpath([os.getcwd(), name]) == os.getcwd()
    return os.path.relpath(name) if inside else name


def absolute(config: DataConfig) -> DataConfig:
    """Return the section with absolute paths, which mean the same from every folder."""
    root = None if config.root is None else os.path.abspath(os.path.expanduser(config.root))
    root = config.root if root is not None and HIDDEN.search(root) else root  # a config file cannot hold it: it stays relative
    names = tuple(map(_absolute_name, config.sources))
    return config.model_copy(update={"dataset": names if len(names) > 1 else names[0], "root": root})


def _absolute_name(name: str) -> str:
    path = os.path.expanduser(name)
    if is_url(name):
        return name
    if is_glob(name):
        full = path if os.path.isabs(path) else os.path.join(glob.escape(os.getcwd()), path)
        return name if HIDDEN.search(full) else full
    moved = not is_data_set(name) and os.path.exists(path) and not HIDDEN.search(os.path.abspath(path))
    return os.path.abspath(path) if moved else data_set_name(name) or name


def _refuse_single_numbers(parts: Mapping[str, Part], config: DataConfig) -> None:
    """Raise ``DataError`` for a series of numbers without a window: each item would be one number."""
    for part in parts.values():
        if not part.shape and config.window == 1:
            count = "" if part.count is None else f"{part.count:,} "
            raise DataError(
                f"{part.name}: a series of {count}numbers; a window of them is an item. "
                "Say how many make one: --set data.window=24"
            )


def _scaled(splits: Splits, config: DataConfig) -> Splits:
    """Return the splits with the scaling of the config, which is of vectors only."""
    if splits.form.kind != "vectors":
        _refuse_fields(config, splits.source, "scaling", "missing", "transform", "window", "stride")
        return splits
    _refuse_fields(config, splits.source, "range")
    form = splits.train.led(lambda: scaled(splits.train, config.scaling, config.missing == "mean", splits.source))
    seen = splits.with_form(form)
    if config.window == 1:
        return seen
    train, validation, test = (
        windowed(seen.get(name), config.window, config.stride, f"{seen.source}: {name}") for name in SPLITS
    )
    return Splits(train, validation, test, seen.source)


def _refuse_fields(config: DataConfig, source: str, *fields: str) -> None:
    """Refuse fields that would have no effect on this source."""
    meaning = FIXED_FIELDS | {field: f"is only for {what}" for field, what in SOME_FIELDS.items()}
    given = [field for field in fields if getattr(config, field) != DataConfig.model_fields[field].default]
    if given:
        raise ConfigError("\n".join(f"data.{field}: {source}: {meaning[field]}" for field in given))


def _not_found(name: str, exists: bool) -> DataError:
    if exists:
        return DataError(f"data.dataset: {name}: expected {formats()}")
    if {"/", os.sep} & set(name) or is_data_file(name):
        return DataError(f"data.dataset: {name}: no such file or folder (looked from {os.getcwd()})")
    known = suggestion(name, ["digits", *DOWNLOADS])
    return DataError(f"data.dataset: {name}: no such data set{known}, and no file or folder has that name")
