"""An image file alone: an item to score or reconstruct, but nothing to train on."""

from pathlib import Path
from typing import NoReturn

from tiedae_cli.data.image_files import open_image
from tiedae_cli.data.sources.source import ReadOptions, Source
from tiedae_cli.errors import DataError


def _refused(path: Path, options: ReadOptions) -> NoReturn:
    open_image(path)  # any file of an unknown kind comes here
    raise DataError(f"{path}: one image; a model is trained on many: name the folder that holds them")


IMAGE_FILE = Source("image", "an image", _refused)
