"""Image files of any size and colour, decoded and converted to a given form (Pillow decodes and resizes)."""

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from tiedae_cli.data.image_set import DataForm, ImageSet
from tiedae_cli.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"})


def is_image_file(name: str) -> bool:
    """Return whether a command line argument means an image rather than a model."""
    return name == "-" or Path(name).suffix.lower() in SUFFIXES


def load_image_files(paths: Sequence[Path], form: DataForm, say: Callable[[str], None]) -> ImageSet:
    """Read image files as a set of a given form.

    Args:
        paths: the files; ``-`` is stdin.
        form: what the model takes.
        say: is told of each conversion.

    Raises:
        DataError: the form is not images, or a file cannot be decoded; the message names it.

    """
    if form.kind != "images" or form.shape[0] not in (1, 3):
        raise DataError(f"this model takes {form.describe()}; image files do not fit")
    images = torch.stack([torch.from_numpy(read_image(path, form.shape, say)) for path in paths])  # (N, C, H, W)
    return ImageSet(images, None, DataForm(form.shape, scale=1 / 255))


def read_image(path: Path, shape: tuple[int, int, int], say: Callable[[str], None] | None = None) -> np.ndarray:
    """Decode one file, and convert and resize it to (C, H, W) uint8.

    Raises:
        DataError: it cannot be decoded.

    """
    from PIL import Image

    channels, height, width = shape
    with open_image(path) as image:
        mode = "L" if channels == 1 else "RGB"
        if say is not None and (image.size != (width, height) or image.mode != mode):
            kind = "gray" if channels == 1 else "colour"
            say(f"{path}: {image.width}x{image.height} {image.mode}, converted to {width}x{height} {kind}")
        plain = _without_transparency(image).convert(mode)
        if plain.size != (width, height):
            plain = plain.resize((width, height), Image.Resampling.LANCZOS)
        pixels = np.array(plain, dtype=np.uint8)  # a copy: Pillow's own memory is read-only, and torch warns of that
    return np.ascontiguousarray(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1))  # (H, W[, C]) -> (C, H, W)


def open_image(path: Path) -> "Image":
    """Open and fully decode an image, turned the way its EXIF orientation says.

    Raises:
        DataError: it cannot be decoded; the message names the file.

    """
    import warnings

    from PIL import Image, ImageOps

    source = io.BytesIO(sys.stdin.buffer.read()) if str(path) == "-" else path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source) as image:
                image.load()
                return ImageOps.exif_transpose(image)  # always a copy, so the file may close
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (
        Exception
    ) as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, DecompressionBombError ...
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = "unknown format" if "cannot identify" in reason else reason
        raise DataError(f"{path}: not an image that can be decoded ({reason})") from None


def _without_transparency(image: "Image") -> "Image":
    """Put transparent images on white, as viewers show them, and bring 16-bit gray to 8 bits."""
    from PIL import Image

    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image
