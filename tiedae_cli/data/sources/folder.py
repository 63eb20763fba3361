"""A folder of images: decoded once, in parallel, into one array in the user's cache folder, and memory-mapped from there.

Shapes: N images of one size, C channels (1 gray, 3 color), H x W pixels.
"""

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiedae_cli.config import DataConfig
from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.image_files import (
    SUFFIXES,
    Selection,
    decode_image,
    image_names,
    image_warnings,
    is_color,
    is_wide,
    pixels_of,
)
from tiedae_cli.data.item_set import BLOCK_BYTES, SPLITS, ItemForm, ValueRange, range_of
from tiedae_cli.data.sources.arrays import open_npy
from tiedae_cli.data.sources.named_arrays import split_of_name
from tiedae_cli.data.sources.part import Part, array_part
from tiedae_cli.data.sources.source import Source
from tiedae_cli.errors import ConfigError, DataError, StorageError
from tiedae_cli.system.cache import cache_folder, seal, taking_turns, undamaged_files
from tiedae_cli.system.processors import usable_processors
from tiedae_cli.system.progress import progress
from tiedae_cli.system.storage import replacing

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

FOLDER_CACHE_VERSION = 2
MASK_WORDS = ("_mask", "-mask", "_seg", "_segmentation", "_label", "_gt", ".mask")
LISTED_FILES = 5  # bad files that a message names
FILES_AT_ONCE, BYTES_AT_ONCE = 16, 1 << 20  # that a thread decodes before it hands them over, at most


@dataclass(frozen=True)
class Listing:
    """The image files below a folder at one moment."""

    folder: Path
    names: list[str]
    """Paths below the folder with ``/``, sorted."""
    skipped: str
    """The numbers of skipped files by reason, as text."""
    digest: str
    """Of the names, sizes and modification times."""


@dataclass(frozen=True)
class Target:
    """The form of all images, and which of its properties were inferred from one file and must hold for all."""

    shape: tuple[int, int, int]
    """(C, H, W)"""
    one_size: bool
    """Every file must have this size; else it is resized."""
    gray_only: bool
    """No file may be in color; else it is converted."""
    pattern: str
    """The file that it was inferred from."""
    range: ValueRange | None = None
    """Black and white of images of more than 8 bits; None: by the bits that each one uses."""
    eight_bits_only: bool = False
    """No file may have more than 8 bits; else the range of all of them is found first."""


class _ColorFoundError(Exception):
    """A color image among what looked like gray ones."""


class _WideFoundError(Exception):
    """An image of more than 8 bits while the range of such images is not known."""


def folder_parts(folder: Path, config: DataConfig) -> dict[str, Part]:
    """Return the images of a folder as the splits that its sub-folders name: only ``train`` if there are none.

    Every file with a suffix of ``image_files.SUFFIXES`` belongs to it, in the order of the paths; hidden files and folders do not.
    Sub-folders named like a split (``train``, ``val``, ``Test`` ...) are the splits. If all images, of the folder or of its splits, lie in
    sub-folders with two or more names, those are the classes: the label of an image is the index of its class among the sorted names.

    One image that does not decode is an error here, before the first epoch: a training set must not silently lack files.

    Args:
        folder: read recursively.
        config: ``size``, ``mode`` and ``range``; None is inferred: the one size that all share; color if any file is in color;
            of more than 8 bits, the bit depth in use. ``include`` and ``exclude`` choose among the files.

    Raises:
        DataError: no images, images outside the split folders, images that do not decode, or several sizes.
        StorageError: the cache cannot be written.
    """
    listing = list_images(folder, Selection(config.include, config.exclude))
    ranges = _split_ranges(listing)
    _warn_of_masks(listing)
    labels, names = _labels(listing.names, depth=1 if ranges else 0)
    pixels = _cached(listing, config)

    def part(start: int, stop: int) -> Part:
        own = None if labels is None else labels[start:stop]
        return replace(array_part(pixels[start:stop], str(folder), own), label_names=names)

    return {name: part(*bounds) for name, bounds in ranges.items()} or {"train": part(0, len(pixels))}


def list_images(folder: Path, selection: Selection = Selection()) -> Listing:  # noqa: B008
    """List the image files below a folder, with a digest of their names, sizes and times.

    Raises:
        DataError: there are none, or a folder or file cannot be read.
    """
    images = image_names(folder, selection)
    names = images.names
    if not names and images.unmatched:
        raise ConfigError(f"{folder}: no image matches {'; '.join(images.unmatched)} (skipped: {images.describe_skipped()})")
    for pattern in images.unmatched:
        log.warning(f"{folder}: no image matches {pattern}")
    images.warn_if_most_are_skipped(folder)
    if not names:
        raise DataError(
            f"{folder}: no images in this folder (looked for {', '.join(sorted(SUFFIXES))}, also in sub-folders){images.what_else(folder)}"
        )
    digest = hashlib.sha256()
    for name in names:
        with data_errors(path := os.path.join(folder, name)):
            information = os.stat(path)
        digest.update(os.fsencode(f"{name}\0{information.st_size}\0{information.st_mtime_ns}\0"))
    return Listing(folder, names, images.describe_skipped(), digest.hexdigest())


def _split_ranges(listing: Listing) -> dict[str, tuple[int, int]]:
    """Return the range of each split among the sorted names; empty if no sub-folder is named like a split."""
    tops = [name.partition("/")[0] if "/" in name else "" for name in listing.names]
    folders: dict[str, list[str]] = {}
    for top in dict.fromkeys(tops):
        split = split_of_name(top)
        if split is not None:
            folders.setdefault(split, []).append(top)
    if not folders:
        return {}
    double = next((names for names in folders.values() if len(names) > 1), None)
    if double:
        raise DataError(f"{listing.folder}: the folders {' and '.join(double)} are the same split; rename or remove one")
    present = [folders[name][0] for name in SPLITS if name in folders]
    if "train" not in folders:
        raise DataError(f"{listing.folder}: has a folder {present[0]}, but none named train")
    outside = [name for name, top in zip(listing.names, tops, strict=True) if top not in present]
    if outside:
        raise DataError(
            f"{listing.folder}: {len(outside):,} images lie outside its split folders {', '.join(present)}, for example {outside[0]}; "
            "move them, or skip them with --set 'data.exclude=...'"
        )
    ranges = {}
    for split in SPLITS:
        if split in folders:
            top = folders[split][0]
            ranges[split] = (tops.index(top), len(tops) - tops[::-1].index(top))
    return ranges


def _warn_of_masks(listing: Listing) -> None:
    """Warn if many files look like masks of the images: the same names with a word or another suffix."""
    stems: dict[str, set[str]] = {}
    for name in listing.names:
        stem, suffix = os.path.splitext(name)
        stems.setdefault(suffix.lower(), set()).add(stem)
    kinds = sorted(stems, key=lambda suffix: suffix != ".png")
    for suffix in kinds:
        other = next(
            (kind for kind in kinds if kind != suffix and len(stems[suffix] & stems[kind]) >= 0.9 * len(stems[suffix])), None
        )
        if other is not None:
            log.warning(
                f"{listing.folder}: {len(stems[suffix]):,} *{suffix} files have the names of *{other} files: are they masks? "
                f"--set 'data.exclude=*{suffix}' skips them"
            )
            return
    everything = set().union(*stems.values())
    for word in MASK_WORDS:
        masks = [stem for stem in everything if stem.endswith(word) and stem.removesuffix(word) in everything]
        if len(masks) >= 0.3 * len(everything):
            log.warning(
                f"{listing.folder}: {len(masks):,} files *{word}.* stand beside images of the same names: are they masks? "
                f"--set 'data.exclude=*{word}.*' skips them"
            )
            return


def _labels(names: Sequence[str], depth: int) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """Return each image's class, (N,) int64: the place of its folder at a depth among the sorted names of such folders; and these."""
    parts = [name.split("/") for name in names]
    if any(len(part) < depth + 2 for part in parts):
        return None, None
    classes = {name: index for index, name in enumerate(sorted({part[depth] for part in parts}))}
    return (np.array([classes[part[depth]] for part in parts]), tuple(classes)) if len(classes) > 1 else (None, None)


def _cached(listing: Listing, config: DataConfig) -> np.ndarray:
    """Return the images from the cache, (N, C, H, W) uint8, made first where it does not have them.

    A folder has one cached array for each ``size`` and ``mode``: a new one, made after a file changed, replaces the old.
    """
    chosen = (config.size, config.mode, config.range, config.include, config.exclude)
    request = "\0".join(map(str, (FOLDER_CACHE_VERSION, os.path.realpath(listing.folder), *chosen)))
    cached = cache_folder() / "folders" / hashlib.sha256(os.fsencode(request)).hexdigest()[:32]
    path = cached / f"{listing.digest[:32]}.npy"
    images = _open(path, len(listing.names))
    if images is not None:
        return images
    with taking_turns(cached):
        images = _open(path, len(listing.names))  # made by the process that was waited for?
        if images is None:
            _build(listing, config, path)
            seal([path])
            images = open_npy(path)["train"].array
            assert images is not None
            _remove_others(path)
            _report(listing, images, config, path)
    return images


def _open(path: Path, count: int) -> np.ndarray | None:
    """Return a cached array, or None if there is none of this many images or it is damaged."""
    if path.name not in undamaged_files(path.parent):
        return None
    with contextlib.suppress(DataError):
        images = open_npy(path)["train"].array
        if images is not None and images.ndim == 4 and len(images) == count and images.dtype == np.uint8:
            return images
    return None


def _remove_others(path: Path) -> None:
    for old in path.parent.glob("*.npy"):
        if old != path:
            with contextlib.suppress(OSError):  # a process that has it mapped keeps it until it ends
                old.unlink()


def _report(listing: Listing, images: np.ndarray, config: DataConfig, path: Path) -> None:
    fields = [f"data.{name}" for name, value in (("size", config.size), ("mode", config.mode)) if value is None]
    inferred = f" (inferred; {' and '.join(fields)} would choose)" if fields else ""
    skipped = f"; skipped: {listing.skipped}" if listing.skipped else ""
    channels, height, width = images.shape[1:]
    form = ItemForm((channels, height, width)).describe()
    log.info(f"{listing.folder}: {len(images):,} {form}{inferred}{skipped}; decoded once into {path}")


def _build(listing: Listing, config: DataConfig, path: Path) -> None:
    """Decode all images into a new cached array."""
    with image_warnings():
        chosen = None if config.range is None else ValueRange(*config.range, whole=True)
        target = replace(_target(listing, config), range=chosen, eight_bits_only=chosen is None)
        while True:
            try:
                return _write(listing, target, path)
            except _ColorFoundError:
                target = replace(target, shape=(3, *target.shape[1:]), gray_only=False)
            except _WideFoundError:
                target = replace(target, range=_range(listing), eight_bits_only=False)


def _target(listing: Listing, config: DataConfig) -> Target:
    """Return the form that the config asks for; what it leaves open is taken from the first image that decodes."""
    if config.size is not None and config.mode is not None:
        return Target((1 if config.mode == "gray" else 3, *config.size), one_size=False, gray_only=False, pattern="")
    bad = []
    for name in listing.names:
        try:
            image = decode_image(listing.folder / name)
        except DataError as error:
            bad.append(str(error))
            continue
        color = is_color(image) if config.mode is None else config.mode == "color"
        size = config.size or (image.height, image.width)
        gray_only = config.mode is None and not color
        return Target((3 if color else 1, *size), config.size is None, gray_only, pattern=name)
    raise _bad_files(listing, bad)


def _range(listing: Listing) -> ValueRange | None:
    """Return black and white of images of more than 8 bits, by the bits in use in all of them."""
    largest, first = 0.0, None
    for name in listing.names:
        with contextlib.suppress(DataError):  # reported when it is decoded for the cache
            image = decode_image(listing.folder / name)
            if is_wide(image):
                largest, first = max(largest, float(np.asarray(image).max())), first or name
    found = range_of(largest)
    if found is not None:
        log.info(
            f"{listing.folder}: images of more than 8 bits ({first} ...), up to {largest:,.0f}: {found.high:,.0f} is white, and 256 of "
            "its levels are kept; override: --set 'data.range=[LOWEST, HIGHEST]'"
        )
    return found


def _write(listing: Listing, target: Target, path: Path) -> None:
    """Write all images as (N, C, H, W) uint8, whole or not at all; every file is tried before bad ones are reported."""
    shape = (len(listing.names), *target.shape)
    _check_room(path.parent, int(np.prod(shape, dtype=object)))
    bad, done = list[str](), 0
    with replacing(path) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for pixels, problems in _decoded(listing, target):
            bad += problems
            if not bad:
                file.write(pixels.data)
            done += len(pixels)
            progress(f"decoding {listing.folder}", done, len(listing.names))
        if bad:
            raise _bad_files(listing, bad)


def _decoded(listing: Listing, target: Target) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Yield the pixels of some files at a time, (B, C, H, W) uint8, in order, and why some of them cannot be decoded.

    Threads decode, because Pillow releases the GIL. Each takes several files at once, because handing over a small image takes half as
    long as decoding it.
    """

    def decode(names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
        pixels, problems = np.empty((len(names), *target.shape), np.uint8), []
        for place, name in enumerate(names):
            try:
                image = decode_image(listing.folder / name)
            except DataError as error:
                problems.append(str(error))
                continue
            _require_form(listing, target, name, image)
            pixels[place] = pixels_of(image, target.shape, target.range)
        return pixels, problems

    threads, item = usable_processors(), int(np.prod(target.shape))
    size = max(1, min(FILES_AT_ONCE, BYTES_AT_ONCE // item))
    block = max(threads, min(1024, BLOCK_BYTES // item)) // size * size or size  # what may wait decoded for the disk
    pool = ThreadPoolExecutor(threads)
    try:
        for start in range(0, len(listing.names), block):
            names = listing.names[start : start + block]
            yield from pool.map(decode, [names[i : i + size] for i in range(0, len(names), size)])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an interruption does not wait for a slow disk


def _require_form(listing: Listing, target: Target, name: str, image: "Image") -> None:
    """Raise an error if an image contradicts what was inferred from the first one."""
    if target.one_size and (image.height, image.width) != target.shape[1:]:
        raise _mixed_sizes(listing, target, name, image.height, image.width)
    if target.gray_only and is_color(image):
        raise _ColorFoundError
    if target.eight_bits_only and is_wide(image):
        raise _WideFoundError


def _mixed_sizes(listing: Listing, target: Target, name: str, height: int, width: int) -> DataError:
    _, first_height, first_width = target.shape
    return DataError(
        f"{listing.folder}: images of different sizes: {target.pattern} is {first_height}x{first_width}, {name} is {height}x{width} "
        "(height x width)\nChoose a small one for all: --set data.size=32 (or 64), or [height, width]; images are stretched to it"
    )


def _bad_files(listing: Listing, bad: Sequence[str]) -> DataError:
    others = [f"and {len(bad) - LISTED_FILES:,} others"] if len(bad) > LISTED_FILES else []
    return DataError(
        "\n".join(
            [
                f"{listing.folder}: {len(bad):,} of {len(listing.names):,} images cannot be decoded:",
                *bad[:LISTED_FILES],
                *others,
                "Repair or remove them; files are never skipped silently.",
            ]
        )
    )


def _check_room(folder: Path, needed: int) -> None:
    """Refuse images that do not fit on the disk, before time is spent on them."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"{folder}: the decoded images take {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            "a smaller data.size takes less, and XDG_CACHE_HOME names another folder for caches"
        )


IMAGE_FOLDER = Source(
    "folder",
    "a folder of images",
    lambda path, options: folder_parts(path, options.data),
    fields=("size", "mode", "range", "include", "exclude"),
    is_folder=True,
)
