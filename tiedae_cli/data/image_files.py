"""Image files of any size and color, decoded and converted to a given form (Pillow decodes and resizes)."""

import contextlib
import fnmatch
import io
import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from tiedae_cli.data.item_set import ItemForm, ItemSet, ValueRange, range_of
from tiedae_cli.data.sources.column_names import composed
from tiedae_cli.data.sources.part import Bad, Part, RawBlock
from tiedae_cli.errors import DataError
from tiedae_cli.system.files_in_use import note_input
from tiedae_cli.system.portability import quoted
from tiedae_cli.system.regular_files import open_regular, what_it_is
from tiedae_cli.system.standard_streams import stdin
from tiedae_cli.system.text import note_names

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

SUFFIXES = frozenset(
    f".{name}" for name in "png jpg jpeg jfif jpe bmp dib gif tif tiff webp ppm pgm pbm pnm jp2 j2k tga avif".split()
)


def is_image_file(name: str) -> bool:
    """Return whether a file name has the suffix of an image."""
    return Path(name).suffix.lower() in SUFFIXES


FORMATS = "PNG JPEG BMP DIB GIF TIFF WEBP PPM JPEG2000 TGA AVIF".split()  # all are pixels; others start programs (EPS)
LARGEST_STREAM = 1 << 28  # bytes of an image that comes from a pipe


@cache
def raster_formats() -> list[str]:
    """Return those of ``FORMATS`` that this Pillow knows: older ones have no AVIF of their own."""
    from PIL import Image

    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


NOT_INCLUDED, EXCLUDED = "not in data.include", "by data.exclude"
OWN_REASONS = (NOT_INCLUDED, EXCLUDED)
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".feather", ".arrow", ".jsonl", ".xlsx")  # of files that people split
LISTED_REASONS = 6  # that a message names


@dataclass(frozen=True)
class Selection:
    """Which image files of a folder to read."""

    include: tuple[str, ...] = ()
    """Globs; at least one must match the path below the folder, or the name. Empty: every file matches."""
    exclude: tuple[str, ...] = ()
    """Globs; a file that matches one is skipped."""

    def reason_to_skip(self, below: str) -> str | None:
        """Return why a file is skipped, by its path below the folder; None if it is read."""
        if self.include and not self._fits(below, self.include):
            return NOT_INCLUDED
        return EXCLUDED if self._fits(below, self.exclude) else None

    def unmatched(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return ``KEY: PATTERN`` for each pattern that matches none of the paths."""
        globs = [("data.include", glob) for glob in self.include] + [("data.exclude", glob) for glob in self.exclude]
        return tuple(f"{key}: {glob}" for key, glob in globs if not any(self._fits(name, (glob,)) for name in names))

    @staticmethod
    def _fits(below: str, globs: tuple[str, ...]) -> bool:
        path = composed(below)
        names = (path, path.rpartition("/")[2])
        return any(fnmatch.fnmatch(name, composed(glob)) for glob in globs for name in names)


@dataclass(frozen=True)
class FolderImages:
    """The image files below a folder, and what else is there."""

    names: list[str]
    """Paths below the folder with ``/``, sorted as text."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Number of skipped files by reason: their suffix, or the key of the config that excludes them."""
    unmatched: tuple[str, ...] = ()
    """``KEY: PATTERN`` for each pattern of the selection that matches no image file."""

    def describe_skipped(self) -> str:
        """Return the numbers of skipped files as text: ``90 .heic, 5 by data.exclude``."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.skipped.most_common(LISTED_REASONS))

    def what_else(self, folder: Path) -> str:
        """Return what a folder without images holds instead, as the end of a message."""
        tables = sum(count for suffix, count in self.skipped.items() if suffix in TABLE_SUFFIXES)
        if tables:
            return f"; it has {self.describe_skipped()}: to read tables alone, name their pattern: {quoted(f'{folder}/*.csv')}"
        return f"; it has {self.describe_skipped()}" if self.skipped else ""

    def warn_if_most_are_skipped(self, folder: Path) -> None:
        """Warn if more than half of the files of a folder are skipped, other than by the user's own patterns."""
        others = sum(count for reason, count in self.skipped.items() if reason not in OWN_REASONS)
        if self.names and others > len(self.names):
            log.warning(
                f"{folder}: only {len(self.names):,} of {len(self.names) + others:,} files are read; skipped: {self.describe_skipped()}"
            )


def images_under(folder: Path, selection: Selection = Selection()) -> list[Path]:  # noqa: B008
    """Return the image files in a folder and its sub-folders, in the order in which training sees them."""
    return [folder / name for name in image_names(folder, selection).names]


def image_names(folder: Path, selection: Selection = Selection()) -> FolderImages:  # noqa: B008
    """List the image files below a folder.

    Hidden files and folders are skipped, links are followed, and a folder that is linked twice counts once.

    Raises:
        DataError: a folder cannot be read.
    """
    found: list[str] = []
    skipped: Counter[str] = Counter()
    everything: list[str] = []
    for shown in files_by_folder(folder):
        for name in shown:
            if not is_image_file(name):
                skipped[Path(name).suffix.lower() or "without a suffix"] += 1
                continue
            everything.append(name)
            reason = selection.reason_to_skip(name)
            if reason:
                skipped[reason] += 1
            elif _may_be_read(os.path.join(folder, name)):
                found.append(name)
    note_names(found)
    return FolderImages(sorted(found), skipped, selection.unmatched(everything))


def first_image(folder: Path) -> Path | None:
    """Return one image of a folder or its sub-folders without listing them all; None if there are no images.

    Raises:
        DataError: a folder cannot be read.
    """
    paths = (folder / name for shown in files_by_folder(folder) for name in sorted(shown) if is_image_file(name))
    return next((path for path in paths if path.is_file()), None)


def files_by_folder(folder: Path) -> Iterator[list[str]]:
    """Yield, for each subfolder, the paths of its files below the folder; hidden files are skipped."""
    visited = set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}")

    for parent, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        information = os.stat(parent)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if (information.st_dev, information.st_ino) in visited:
            folders.clear()
            continue
        visited.add((information.st_dev, information.st_ino))
        below = Path(parent).relative_to(folder).as_posix()
        start = "" if below == "." else f"{below}/"
        yield [start + name for name in files if name[0] != "."]


def _may_be_read(path: str) -> bool:
    """Return whether a name in a folder is a regular file, and warn if it is not; broken links are reported when they are opened."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return True
    if not stat.S_ISREG(mode):
        log.warning(f"{path}: {what_it_is(mode)}, not a file; skipped")
    return stat.S_ISREG(mode)


def expand_folders(names: Iterable[str], selection: Selection = Selection()) -> list[Path]:  # noqa: B008
    """Return paths with each folder replaced by the images in it.

    Raises:
        DataError: a folder holds none.
    """
    paths: list[Path] = []
    for path in map(Path, names):
        note_input(path)
        found = [path]
        if path.is_dir():
            images = image_names(path, selection)
            images.warn_if_most_are_skipped(path)
            found = [path / name for name in images.names]
        if not found:
            raise DataError(f"{path}: no image files in this folder ({', '.join(sorted(SUFFIXES))}){images.what_else(path)}")
        paths += found
    return paths


def takes_image_files(form: ItemForm) -> bool:
    """Return whether image files can be converted to the form."""
    return form.kind == "images" and form.shape[0] in (1, 3)


def load_image_files(paths: Sequence[Path], form: ItemForm) -> ItemSet:
    """Read image files as a set of a given form.

    Args:
        paths: the files; ``-`` is stdin.
        form: what the model takes.

    Raises:
        DataError: the form is not images, or a file cannot be decoded; the message names it.
    """
    if not takes_image_files(form):
        raise DataError(f"this model takes {form.describe()}; image files do not fit")
    images = np.stack([read_image(path, form.shape, log.info, range=form.range) for path in paths])  # (N, C, H, W)
    return ItemSet(images, None, ItemForm(form.shape, scale=1 / 255))


def images_part(paths: Sequence[Path], form: ItemForm, say: Callable[[str], None], file: IO[bytes] | None = None) -> Part:
    """Return image files, converted to (C, H, W) uint8, as a part; a file that cannot be decoded is a bad item.

    Args:
        paths: the files.
        form: the model's.
        say: called with a message for each conversion.
        file: read instead of opening the only path, which then is its name in messages.
    """

    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        for start in range(0, len(paths), size):
            pixels: dict[str | int, np.ndarray] = {}
            for path in paths[start : start + size]:
                try:
                    pixels[str(path)] = read_image(path, form.shape, say, file, form.range)
                except DataError as problem:
                    bad(problem)
            if pixels:
                yield RawBlock(list(pixels), np.stack(list(pixels.values())))

    return Part(str(paths[0]), form.shape, np.dtype(np.uint8), len(paths), read)


def read_image(
    path: Path,
    shape: tuple[int, int, int],
    say: Callable[[str], None] | None = None,
    file: IO[bytes] | None = None,
    range: ValueRange | None = None,
) -> np.ndarray:
    """Decode one file, and convert and resize it to (C, H, W) uint8.

    Args:
        path: the file; ``-`` is stdin.
        shape: (C, H, W), C 1 or 3.
        say: called with a message if the image is converted.
        file: read instead of opening ``path``, which then is its name in messages.
        range: as in ``pixels_of``.

    Raises:
        DataError: it cannot be decoded.
    """
    channels, height, width = shape
    with open_image(path, file) as image:
        mode = "L" if channels == 1 else "RGB"
        if say is not None and (image.size != (width, height) or image.mode != mode):
            kind = "gray" if channels == 1 else "color"
            say(f"{path}: {image.height}x{image.width} {image.mode}, converted to {height}x{width} {kind}")
        return pixels_of(image, shape, range)


def pixels_of(image: "Image", shape: tuple[int, int, int], range: ValueRange | None = None) -> np.ndarray:
    """Convert and resize a decoded image (stretched if the proportions differ) to (C, H, W) uint8.

    Args:
        image: any mode.
        shape: (C, H, W), C 1 or 3.
        range: black and white of an image of more than 8 bits. Default: by the bit depth that it uses.
    """
    from PIL import Image

    channels, height, width = shape
    plain, mode = _without_transparency(image, range), "L" if channels == 1 else "RGB"
    if plain.mode != mode:  # Pillow would copy it
        plain = plain.convert(mode)
    if plain.size != (width, height):
        plain = plain.resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(plain)
    return np.array(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1), order="C")  # (H, W[, C]) -> (C, H, W)


def is_color(image: "Image") -> bool:
    """Return whether a decoded image's file stores colors; an RGB file does, whatever its pixels are."""
    if image.mode in ("P", "PA"):
        palette = np.asarray(image.convert("RGBA"))[..., :3]
        return bool((palette != palette[..., :1]).any())
    return image.mode not in ("1", "L", "LA", "La") and not image.mode.startswith("I")


@contextlib.contextmanager
def image_warnings() -> Iterator[None]:
    """Make Pillow's warning of absurdly large images an error and silence its others."""
    import warnings

    from PIL import Image

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def open_image(path: Path, file: IO[bytes] | None = None) -> "Image":
    """Open and fully decode an image, turned the way its EXIF orientation says; ``file`` as in ``read_image``.

    Raises:
        DataError: it cannot be decoded; the message names the file.
    """
    with image_warnings():
        return decode_image(path, file)


def decode_image(path: Path, file: IO[bytes] | None = None) -> "Image":
    """Do what ``open_image`` does in a thread, whose caller entered ``image_warnings``: warning filters belong to the process."""
    from PIL import Image, ImageOps

    stream = stdin() if file is None and str(path) == "-" else file
    if stream is not None:
        content = stream.read(LARGEST_STREAM + 1)
        if len(content) > LARGEST_STREAM:
            raise DataError(f"{path}: not an image: larger than {LARGEST_STREAM >> 20} MiB")
    try:
        with (
            open_regular(path) if stream is None else io.BytesIO(content) as source,
            Image.open(source, formats=raster_formats()) as image,
        ):
            image.load()
            if image.mode == "F":
                raise ValueError("floating-point pixels have no known range; save them as a .npy array")
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                log.info(f"{path}: {frames} frames; the first is used")
            ImageOps.exif_transpose(image, in_place=True)
            return image  # its pixels are loaded: the file is closed here, also if it is damaged
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        reason = error.strerror if error.errno is not None else None  # Pillow's own errors have no errno
        raise DataError(f"{path}: cannot be read: {reason}" if reason else _not_an_image(path, error)) from None
    except (
        Exception
    ) as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, DecompressionBombError ...
        raise DataError(_not_an_image(path, error)) from None


def _not_an_image(path: Path, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    reason = "unknown format" if "cannot identify" in reason else reason
    return f"{path}: not an image that can be decoded ({reason})"


def is_wide(image: "Image") -> bool:
    """Return whether a decoded image has more than 8 bits per pixel and channel."""
    return image.mode.startswith("I")


def _without_transparency(image: "Image", range: ValueRange | None) -> "Image":
    """Put transparent images on white, as viewers show them, and reduce more than 8 bits to 8."""
    from PIL import Image

    if is_wide(image):
        values = np.asarray(image).astype(np.float64)
        found = range or range_of(float(values.max())) or ValueRange(0.0, 255.0, whole=True)
        levels = (values - found.low) * (255 / (found.high - found.low))
        return Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image
