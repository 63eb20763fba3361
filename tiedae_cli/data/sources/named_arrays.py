"""Identifies items, splits and labels among several named arrays in one file."""

import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tiedae_cli.data.option_text import set_option
from tiedae_cli.data.sources.cells import label_text, numbered
from tiedae_cli.data.sources.column_names import LABEL_WORDS, name_words
from tiedae_cli.data.sources.part import Part
from tiedae_cli.errors import ConfigError, DataError
from tiedae_cli.system.text import note_names

log = logging.getLogger(__name__)

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "te"), "test"),
}
ITEM_WORDS = ("x", "data", "image", "images", "features", "inputs", "items", "samples")
GLUED = re.compile(r"^([xy])(train|val|valid|validation|test)$|^(train|val|valid|validation|test)([xy])$")
NUMBERS = "buif"  # kinds of arrays: bool, signed, unsigned, float
TEXT = "US"  # of labels in words
LISTED_ARRAYS = 12  # that a message names
ROLES = ("train", "validation", "test", "labels", "train_labels", "validation_labels", "test_labels")


@dataclass(frozen=True)
class NamedArray:
    """One array of a file, not read yet."""

    shape: tuple[int, ...]
    """(N, ...)"""
    dtype: np.dtype
    part: Callable[[], Part]
    """Makes it the items of a split."""
    whole: Callable[[], np.ndarray]
    """Reads it at once, as labels are."""


@dataclass(frozen=True)
class Unreadable:
    """An array of a file that cannot be read."""

    reason: str
    """A clause, for messages: ``is a struct``."""
    size: int = 0
    """Its number of values, if known."""


def open_arrays(
    path: str, arrays: Mapping[str, NamedArray], requested: Mapping[str, str], unreadable: Mapping[str, Unreadable] = {}
) -> dict[str, Part]:
    """Return the arrays of a file as the splits that their names identify; ``train`` alone if no name means a split.

    Args:
        path: of the file, for messages.
        arrays: what it holds.
        requested: ``data.arrays``: names by role; they override detection.
        unreadable: the arrays that cannot be read. If one is more likely to hold the items than what can be read, that is the error.

    Raises:
        DataError: no array, or more than one, could be the items of a split; or the likely one is unreadable.
        ConfigError: ``data.arrays`` names an array that does not exist.
    """
    note_names([*arrays, *unreadable])
    for name in requested.values():
        if name in unreadable:
            raise DataError(f"{path}: {name} {unreadable[name].reason}")
    if requested:
        chosen, labels = _requested(path, arrays, requested)
    else:
        _refuse_second_best(path, arrays, unreadable)
        chosen, labels = _detected(path, arrays)
        _report_unreadable(path, unreadable)
    parts = {}
    for split, name in chosen.items():
        if arrays[name].dtype.kind not in NUMBERS:
            raise DataError(f"{path}: {name}: its type is {arrays[name].dtype}, not numbers; expected uint8 or float32")
        part, label = arrays[name].part(), labels.get(split)
        if label is not None:
            numbers, words = _labels(arrays[label], arrays[name], f"{path}: {label}", bool(requested))
            part = replace(part, labels=numbers, label_names=words)
        parts[split] = part
    return parts


def _refuse_second_best(path: str, arrays: Mapping[str, NamedArray], unreadable: Mapping[str, Unreadable]) -> None:
    """Raise ``DataError`` if an array that cannot be read is more likely to hold the items than every other."""
    readable = [name for name, array in arrays.items() if len(array.shape) >= 2 and not is_called_label(name)]
    named = [name for name in readable if _is_likely(name)]
    largest = max((math.prod(arrays[name].shape) for name in readable), default=0)
    for name, array in unreadable.items():
        larger = not named and not is_called_label(name) and array.size > largest
        if _is_likely(name) or larger or not readable:
            advice = f"; to read another array: {set_option('data.arrays', readable[0])}" if readable else ""
            raise DataError(f"{path}: {name} {array.reason}{advice}")


def _report_unreadable(path: str, unreadable: Mapping[str, Unreadable]) -> None:
    if unreadable:
        listed = [f"{name} {array.reason}" for name, array in list(unreadable.items())[:LISTED_ARRAYS]]
        more = f"; and {len(unreadable) - LISTED_ARRAYS} more" if len(unreadable) > LISTED_ARRAYS else ""
        log.info(f"{path}: ignored: {'; '.join(listed)}{more}")


def _is_likely(name: str) -> bool:
    """Return whether an array is named like the items: by words for items, and for a split."""
    words = set(_words(name))
    return bool(words & set(ITEM_WORDS)) and words <= {*ITEM_WORDS, *SPLIT_WORDS}


def _requested(
    path: str, arrays: Mapping[str, NamedArray], requested: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    for role, name in requested.items():
        if role not in ROLES:
            raise ConfigError(f"data.arrays: {role}: no such role (known: {', '.join(ROLES)})")
        if name not in arrays:
            raise ConfigError(f"data.arrays: {path} has no array {name}: it holds {_listed(arrays)}")
    splits = {split: requested[split] for split in ROLES[:3] if split in requested}
    if "train" not in splits:
        raise ConfigError("data.arrays: no array is named for `train`")
    labels = {split: requested[f"{split}_labels"] for split in splits if f"{split}_labels" in requested}
    return splits, {"train": requested["labels"], **labels} if "labels" in requested else labels


def _detected(path: str, arrays: Mapping[str, NamedArray]) -> tuple[dict[str, str], dict[str, str]]:
    words = {name: _words(name) for name in arrays}
    is_label = {name: is_called_label(name) for name in arrays}
    split_of = {name: next((SPLIT_WORDS[word] for word in words[name] if word in SPLIT_WORDS), None) for name in arrays}
    items = [
        name for name, array in arrays.items() if array.dtype.kind in NUMBERS and not is_label[name] and len(array.shape) >= 2
    ]
    if not items:  # a series of numbers, if it is the only one
        flat = [name for name, array in arrays.items() if array.dtype.kind in NUMBERS and not is_label[name] and array.shape]
        items = flat if len(flat) == 1 else []
    by_split = {split: [name for name in items if split_of[name] == split] for split in ("train", "validation", "test")}
    whole = [name for name in items if split_of[name] is None]
    chosen: dict[str, str] = {}
    if any(by_split.values()):
        likely = [name for name in whole if set(words[name]) <= set(ITEM_WORDS)]
        if by_split["train"] and not likely and all(len(names) <= 1 for names in by_split.values()):
            chosen = {split: names[0] for split, names in by_split.items() if names}
    elif len(whole) == 1:
        chosen = {"train": whole[0]}
    else:
        likely = [name for name in whole if set(words[name]) <= set(ITEM_WORDS)]
        chosen = {"train": likely[0]} if len(likely) == 1 else {}
    if not arrays:
        raise DataError(f"{path}: holds no arrays")
    if not chosen:
        raise DataError(
            f"{path}: holds {_listed(arrays)}: which are the items? Say it with --set data.arrays=NAME, or for several "
            "--set 'data.arrays={train: NAME, test: NAME, labels: NAME}'"
        )
    ignored = [name for name in items if name not in chosen.values()]
    if ignored:
        log.info(f"{path}: the items are {', '.join(chosen.values())}; ignored: {', '.join(ignored)}")
    labels = {}
    for split, name in chosen.items():
        fitting = [label for label in arrays if is_label[label] and split_of[label] == split_of[name]]
        if fitting:
            labels[split] = fitting[0]
    return chosen, labels


def is_called_label(name: str) -> bool:
    """Return whether an array is named like labels."""
    return any(word in LABEL_WORDS for word in _words(name))


def _words(name: str) -> list[str]:
    """Return a name's words: ``x_train``, ``xTrain`` and ``train/x`` have the same two."""
    words: list[str] = []
    for word in name_words(name):
        glued = GLUED.match(word)
        words += [part for part in glued.groups() if part] if glued else [word]
    return words


def _listed(arrays: Mapping[str, NamedArray]) -> str:
    shown = [
        f"{name} ({' x '.join(map(str, array.shape)) or 'a number'})" for name, array in list(arrays.items())[:LISTED_ARRAYS]
    ]
    return ", ".join(shown) + (f" and {len(arrays) - LISTED_ARRAYS} more" if len(arrays) > LISTED_ARRAYS else "")


def _labels(array: NamedArray, items: NamedArray, name: str, asked: bool) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """Return labels, (N,) int64, and their texts if they are words; whole numbers may be stored as floats.

    An array that cannot be labels is ignored, because training needs none.

    Raises:
        DataError: it cannot be labels, and the config asked for it.
    """
    count = items.shape[0]
    if math.prod(array.shape) != count:
        raise DataError(
            f"{name}: {' x '.join(map(str, array.shape))} {array.dtype}; labels are {count:,} whole numbers or words, one an item"
        )
    values = array.whole()
    flat = values.reshape(-1)
    if flat.size == count and flat.dtype.kind in TEXT:
        words = flat if flat.dtype.kind == "U" else np.char.decode(flat, "utf-8", "replace")
        return numbered(np.array([label_text(word) for word in words.tolist()]))
    if flat.size == count and _are_whole(flat):
        return flat.astype(np.int64), None
    problem = f"{name}: {' x '.join(map(str, values.shape))} {values.dtype}; labels are {count:,} whole numbers or words, one per item"
    if asked or flat.size != count:
        raise DataError(problem)
    log.info(f"{problem}; ignored")
    return None, None


def _are_whole(numbers: np.ndarray) -> bool:
    """Return whether int64 represents all of these numbers exactly."""
    if numbers.dtype.kind not in NUMBERS:
        return False
    with np.errstate(invalid="ignore"):
        return bool(((numbers == np.floor(numbers)) & (np.abs(numbers.astype(np.float64)) < 2.0**63)).all())


def split_of_name(name: str) -> str | None:
    """Return the split that the name of a folder or file means, or None."""
    return SPLIT_WORDS.get(name.strip().lower())
