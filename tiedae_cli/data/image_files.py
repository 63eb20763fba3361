"""Image files of any size and colour, decoded and converted to a given form (Pillow decodes and resizes)."""

import contextlib
import io
import sys
from collections.abc import Callable, Iterator, Sequence
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
    channels, height, width = shape
    with open_image(path) as image:
        mode = "L" if channels == 1 else "RGB"
        if say is not None and (image.size != (width, height) or image.mode != mode):
            kind = "gray" if channels == 1 else "colour"
            say(f"{path}: {image.width}x{image.height} {image.mode}, converted to {width}x{height} {kind}")
        return pixels_of(image, shape)


def pixels_of(image: "Image", shape: tuple[int, int, int]) -> np.ndarray:
    """Convert and resize (stretch, where the proportions differ) a decoded image to (C, H, W) uint8."""
    from PIL import Image

    channels, height, width = shape
    plain = _without_transparency(image).convert("L" if channels == 1 else "RGB")
    if plain.size != (width, height):
        plain = plain.resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(plain, dtype=np.uint8)
    return np.ascontiguousarray(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1))  # (H, W[, C]) -> (C, H, W)


def is_colour(image: "Image") -> bool:
    """Return whether a decoded image's file stores colours; an RGB file does, whatever its pixels are."""
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


def open_image(path: Path) -> "Image":
    """Open and fully decode an image, turned the way its EXIF orientation says.

    Raises:
        DataError: it cannot be decoded; the message names the file.

    """
    with image_warnings():
        return decode_image(path)


def decode_image(path: Path) -> "Image":
    """Do what ``open_image`` does in a thread, whose caller entered ``image_warnings``: warning filters belong to the process."""
    from PIL import Image, ImageOps

    source = io.BytesIO(sys.stdin.buffer.read()) if str(path) == "-" else path
    try:
        with Image.open(source) as image:
            image.load()
            if image.mode == "F":
                raise ValueError("floating-point pixels have no known range; save them as a .npy array")
            return ImageOps.exif_transpose(image)  # a copy: the file is closed here, also where it is damaged
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
