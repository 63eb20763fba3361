"""Several arrays in one file: by their names, which hold the items of which split, and which the labels."""

import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tiedae_cli.data.sources.cells import label_text, numbered
from tiedae_cli.data.sources.part import Part
from tiedae_cli.errors import ConfigError, DataError

log = logging.getLogger(__name__)

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "te"), "test"),
}
LABEL_WORDS = ("y", "label", "labels", "target", "targets", "class", "classes", "outlier", "outliers")
ITEM_WORDS = ("x", "data", "image", "images", "features", "inputs", "items", "samples")
WORD = re.compile(r"[a-z]+|\d+")
GLUED = re.compile(r"^([xy])(train|val|valid|validation|test)$|^(train|val|valid|validation|test)([xy])$")
NUMBERS = "buif"  # kinds of arrays: bool, signed, unsigned, float
TEXT = "US"  # of labels in words
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


def open_arrays(path: str, arrays: Mapping[str, NamedArray], wanted: Mapping[str, str]) -> dict[str, Part]:
    """Return the arrays of a file as the splits that their names say: ``train`` alone where no name says a split.

    Args:
        path: of the file, for messages.
        arrays: what it holds.
        wanted: ``data.arrays``: names by their role, which decide alone.

    Raises:
        DataError: no array, or more than one, could be the items of a split.
        ConfigError: ``data.arrays`` names what is not there.
    """
    chosen, labels = _asked_for(path, arrays, wanted) if wanted else _found(path, arrays)
    parts = {}
    for split, name in chosen.items():
        if arrays[name].dtype.kind not in NUMBERS:
            raise DataError(f"{path}: {name}: its type is {arrays[name].dtype}, not numbers; expected uint8 or float32")
        part, label = arrays[name].part(), labels.get(split)
        if label is not None:
            numbers, words = _labels(arrays[label], arrays[name], f"{path}: {label}", bool(wanted))
            part = replace(part, labels=numbers, label_names=words)
        parts[split] = part
    return parts


def _asked_for(path: str, arrays: Mapping[str, NamedArray], wanted: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    for role, name in wanted.items():
        if role not in ROLES:
            raise ConfigError(f"data.arrays: {role}: no such role (known: {', '.join(ROLES)})")
        if name not in arrays:
            raise ConfigError(f"data.arrays: {path} has no array {name}: it holds {_listed(arrays)}")
    splits = {split: wanted[split] for split in ROLES[:3] if split in wanted}
    if "train" not in splits:
        raise ConfigError("data.arrays: says not which array is train")
    labels = {split: wanted[f"{split}_labels"] for split in splits if f"{split}_labels" in wanted}
    return splits, {"train": wanted["labels"], **labels} if "labels" in wanted else labels


def _found(path: str, arrays: Mapping[str, NamedArray]) -> tuple[dict[str, str], dict[str, str]]:
    words = {name: _words(name) for name in arrays}
    is_label = {name: is_called_label(name) for name in arrays}
    split_of = {name: next((SPLIT_WORDS[word] for word in words[name] if word in SPLIT_WORDS), None) for name in arrays}
    items = [
        name for name, array in arrays.items() if array.dtype.kind in NUMBERS and not is_label[name] and len(array.shape) >= 2
    ]
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
    if not chosen:
        raise DataError(
            f"{path}: holds {_listed(arrays) or 'nothing'}: which are the items? Say it with --set data.arrays=NAME, or for several "
            "--set 'data.arrays={train: NAME, test: NAME, labels: NAME}'"
        )
    left_out = [name for name in items if name not in chosen.values()]
    if left_out:
        log.info(f"{path}: the items are {', '.join(chosen.values())}; left out: {', '.join(left_out)}")
    labels = {}
    for split, name in chosen.items():
        fitting = [label for label in arrays if is_label[label] and split_of[label] == split_of[name]]
        if fitting:
            labels[split] = fitting[0]
    return chosen, labels


def is_called_label(name: str) -> bool:
    """Return whether an array's name says that it holds labels."""
    return any(word in LABEL_WORDS for word in _words(name))


def _words(name: str) -> list[str]:
    """Return a name's words: ``x_train``, ``xTrain`` and ``train/x`` have the same two."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()
    words = []
    for word in WORD.findall(spaced):
        glued = GLUED.match(word)
        words += [part for part in glued.groups() if part] if glued else [word]
    return words


def _listed(arrays: Mapping[str, NamedArray]) -> str:
    shown = [f"{name} ({' x '.join(map(str, array.shape)) or 'a number'})" for name, array in list(arrays.items())[:12]]
    return ", ".join(shown) + (f" and {len(arrays) - 12} more" if len(arrays) > 12 else "")


def _labels(array: NamedArray, items: NamedArray, name: str, asked: bool) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """Return labels, (N,) int64, and what they stand for where they are words; whole numbers may be stored as floats.

    What cannot be labels is left out, for training needs none.

    Raises:
        DataError: it cannot be, and the config asked for it.
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
    problem = (
        f"{name}: {' x '.join(map(str, values.shape))} {values.dtype}; labels are {count:,} whole numbers or words, one an item"
    )
    if asked or flat.size != count:
        raise DataError(problem)
    log.info(f"{problem}: left out")
    return None, None


def _are_whole(numbers: np.ndarray) -> bool:
    """Return whether int64 holds all of these numbers just as they are."""
    if numbers.dtype.kind not in NUMBERS:
        return False
    with np.errstate(invalid="ignore"):
        return bool(((numbers == np.floor(numbers)) & (np.abs(numbers.astype(np.float64)) < 2.0**63)).all())


def split_of_name(name: str) -> str | None:
    """Return the split that a folder's or file's name says, or None."""
    return SPLIT_WORDS.get(name.strip().lower())
