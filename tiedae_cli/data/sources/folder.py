"""A folder of images: decoded once, in parallel, into one array in the user's cache folder, and memory-mapped from there.

Shapes: N images of one size, C channels (1 gray, 3 colour), H x W pixels.
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

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.config import DataConfig
from tiedae_cli.data.gathering import gather
from tiedae_cli.data.image_files import SUFFIXES, decode_image, image_names, image_warnings, is_colour, pixels_of
from tiedae_cli.data.image_set import BLOCK_BYTES, SPLITS, ImageSet
from tiedae_cli.data.sources.arrays import open_npy
from tiedae_cli.errors import DataError, StorageError
from tiedae_cli.system.cache import cache_folder, taking_turns
from tiedae_cli.system.reporting import progress
from tiedae_cli.system.storage import replacing

log = logging.getLogger(__name__)

CACHE_VERSION = 1
NAMED = 5  # bad files that a message names


@dataclass(frozen=True)
class Listing:
    """The image files below a folder at one moment."""

    folder: Path
    names: list[str]
    """Paths below the folder with ``/``, sorted."""
    others: int
    """Files that are left out for their suffix."""
    digest: str
    """Of the names, sizes and modification times."""


@dataclass(frozen=True)
class Target:
    """The form that all images get, and what of it was inferred from one file and so must hold for all."""

    shape: tuple[int, int, int]
    """(C, H, W)"""
    one_size: bool
    """Every file must have this size; else it is resized."""
    gray_only: bool
    """No file may be in colour; else it is converted."""
    pattern: str
    """The file that it was inferred from."""


class _ColourFoundError(Exception):
    """A colour image among what looked like gray ones."""


def load_folder(folder: Path, config: DataConfig) -> dict[str, ImageSet]:
    """Return the images of a folder as the splits that its sub-folders name: ``train`` alone where there are none.

    Every file with a suffix of ``image_files.SUFFIXES`` belongs to it, in the order of the paths; hidden files and folders do not.
    Sub-folders ``train``, ``validation`` and ``test`` are the splits. Where all images, of the folder or of its splits, lie in
    sub-folders with two or more names, those are the classes: an image's label is its class's place among the sorted names.

    One image that does not decode stops everything here, before an epoch is spent, and is named: a training set that silently
    lacks files is not the set that was asked for, and its numbers would be believed.

    Args:
        folder: read recursively.
        config: ``size`` and ``mode``; what is None is inferred: the one size that all share; colour if any file is in colour.

    Raises:
        DataError: no images, images outside the split folders, images that do not decode, or several sizes.
        StorageError: the cache cannot be written.
    """
    listing = list_images(folder)
    ranges = _split_ranges(listing)
    labels = _labels(listing.names, depth=1 if ranges else 0)
    whole = replace(_cached(listing, config), labels=labels)
    return {name: whole.slice(start, stop) for name, (start, stop) in ranges.items()} or {"train": whole}


def list_images(folder: Path) -> Listing:
    """List the image files below a folder, with a digest of their names, sizes and times.

    Raises:
        DataError: there are none, or a folder or file cannot be read.
    """
    names, others = image_names(folder)
    if not names:
        raise DataError(f"{folder}: no images in this folder (looked for {', '.join(sorted(SUFFIXES))}, also in sub-folders)")
    digest = hashlib.sha256()
    for name in names:
        try:
            information = os.stat(folder / name)
        except OSError as error:
            raise DataError(f"{folder / name}: cannot be read: {error.strerror}") from None
        digest.update(os.fsencode(f"{name}\0{information.st_size}\0{information.st_mtime_ns}\0"))
    return Listing(folder, names, others, digest.hexdigest())


def _split_ranges(listing: Listing) -> dict[str, tuple[int, int]]:
    """Return where each split's files stand among the sorted names; nothing where no sub-folder is named like a split."""
    tops = [name.partition("/")[0] if "/" in name else "" for name in listing.names]
    present = [name for name in SPLITS if name in tops]
    if not present:
        return {}
    if "train" not in present:
        raise DataError(f"{listing.folder}: has a folder {present[0]}, but none named train")
    outside = [name for name, top in zip(listing.names, tops, strict=True) if top not in SPLITS]
    if outside:
        raise DataError(
            f"{listing.folder}: {len(outside):,} images lie outside its split folders {', '.join(present)}, for example {outside[0]}; "
            "move them, or rename their folder (a split is train, validation or test)"
        )
    return {name: (tops.index(name), len(tops) - tops[::-1].index(name)) for name in present}


def _labels(names: Sequence[str], depth: int) -> Tensor | None:
    """Return each image's class, (N,) int64: the place of its folder at a depth among the sorted names of such folders."""
    parts = [name.split("/") for name in names]
    if any(len(part) < depth + 2 for part in parts):
        return None
    classes = {name: index for index, name in enumerate(sorted({part[depth] for part in parts}))}
    return torch.tensor([classes[part[depth]] for part in parts]) if len(classes) > 1 else None


def _cached(listing: Listing, config: DataConfig) -> ImageSet:
    """Return the images from the cache, made first where it does not have them.

    A folder has one cached array for each ``size`` and ``mode``: a new one, made after a file changed, replaces the old.
    """
    request = f"{CACHE_VERSION}\0{os.path.realpath(listing.folder)}\0{config.size}\0{config.mode}"
    place = cache_folder() / "folders" / hashlib.sha256(os.fsencode(request)).hexdigest()[:32]
    path = place / f"{listing.digest[:32]}.npy"
    images = _open(path, len(listing.names))
    if images is not None:
        return images
    with taking_turns(place):
        images = _open(path, len(listing.names))  # made by the process that was waited for?
        if images is None:
            _build(listing, config, path)
            images = gather(open_npy(path), str(path))["train"]
            _remove_others(path)
            _tell(listing, images, config, path)
    return images


def _open(path: Path, count: int) -> ImageSet | None:
    """Return a cached array, or None where there is none of this many images or it is cut off."""
    with contextlib.suppress(DataError):
        images = gather(open_npy(path), str(path))["train"]
        if len(images) == count and images.images.dtype == torch.uint8:
            return images
    return None


def _remove_others(path: Path) -> None:
    for old in path.parent.glob("*.npy"):
        if old != path:
            with contextlib.suppress(OSError):  # a process that has it mapped keeps it until it ends
                old.unlink()


def _tell(listing: Listing, images: ImageSet, config: DataConfig, path: Path) -> None:
    fields = [f"data.{name}" for name, value in (("size", config.size), ("mode", config.mode)) if value is None]
    inferred = f" (inferred; {' and '.join(fields)} would choose)" if fields else ""
    left_out = f"; {listing.others:,} files with other suffixes left out" if listing.others else ""
    log.info(f"{listing.folder}: {len(images):,} {images.form.describe()}{inferred}{left_out}; decoded once into {path}")


def _build(listing: Listing, config: DataConfig, path: Path) -> None:
    """Decode all images into a new cached array."""
    with image_warnings():
        target = _target(listing, config)
        try:
            _write(listing, target, path)
        except _ColourFoundError:
            target = replace(target, shape=(3, *target.shape[1:]), gray_only=False)
            _write(listing, target, path)


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
        colour = is_colour(image) if config.mode is None else config.mode == "colour"
        size = config.size or (image.height, image.width)
        gray_only = config.mode is None and not colour
        return Target((3 if colour else 1, *size), config.size is None, gray_only, pattern=name)
    raise _bad_files(listing, bad)


def _write(listing: Listing, target: Target, path: Path) -> None:
    """Write all images as (N, C, H, W) uint8, whole or not at all; every file is tried before bad ones are reported."""
    shape = (len(listing.names), *target.shape)
    _check_room(path.parent, int(np.prod(shape, dtype=object)))
    bad = []
    with replacing(path) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for done, pixels in enumerate(_decoded(listing, target), start=1):
            if isinstance(pixels, DataError):
                bad.append(str(pixels))
            elif not bad:
                file.write(pixels.data)
            progress(f"decoding {listing.folder}", done, len(listing.names))
        if bad:
            raise _bad_files(listing, bad)


def _decoded(listing: Listing, target: Target) -> Iterator[np.ndarray | DataError]:
    """Yield each file's pixels, (C, H, W) uint8, or why there are none; threads decode, for Pillow lets go of the interpreter."""

    def decode(name: str) -> np.ndarray | DataError:
        try:
            image = decode_image(listing.folder / name)
        except DataError as error:
            return error
        if target.one_size and (image.height, image.width) != target.shape[1:]:
            raise _mixed_sizes(listing, target, name, image.height, image.width)
        if target.gray_only and is_colour(image):
            raise _ColourFoundError
        return pixels_of(image, target.shape)

    threads = os.cpu_count() or 1
    block = max(threads, min(1024, BLOCK_BYTES // int(np.prod(target.shape))))  # what may wait decoded for the disk
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(listing.names), block):
            yield from pool.map(decode, listing.names[start : start + block])


def _mixed_sizes(listing: Listing, target: Target, name: str, height: int, width: int) -> DataError:
    _, first_height, first_width = target.shape
    return DataError(
        f"{listing.folder}: images of different sizes: {target.pattern} is {first_width}x{first_height}, {name} is {width}x{height} "
        f"(width x height)\nChoose one [height, width] for all in the config, under data:  size: [{first_height}, {first_width}]"
    )


def _bad_files(listing: Listing, bad: Sequence[str]) -> DataError:
    others = [f"and {len(bad) - NAMED:,} others"] if len(bad) > NAMED else []
    return DataError(
        "\n".join(
            [
                f"{listing.folder}: {len(bad):,} of {len(listing.names):,} images cannot be decoded:",
                *bad[:NAMED],
                *others,
                "Repair or remove them: a training set that silently lacks files is not the set that was asked for.",
            ]
        )
    )


def _check_room(place: Path, needed: int) -> None:
    """Refuse what the disk has no room for before an hour is spent on it."""
    free = shutil.disk_usage(place).free
    if needed > free:
        raise StorageError(
            f"{place}: the decoded images take {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            "a smaller data.size takes less, and XDG_CACHE_HOME names another folder for caches"
        )
