"""Every source of data becomes the same thing: ``Splits`` of ``ImageSet`` (see ``image_set.py``)."""

from tiedae_cli.config import DataConfig
from tiedae_cli.config_file import suggestion
from tiedae_cli.data.digits import load_digits
from tiedae_cli.data.downloads import SOURCES, load_download
from tiedae_cli.data.image_set import DataForm, ImageSet, Splits, check_split, choose
from tiedae_cli.errors import DataError

__all__ = ["DataForm", "ImageSet", "Splits", "check_split", "choose", "load_splits"]


def load_splits(config: DataConfig) -> Splits:
    """Load the data set that a config names.

    Raises:
        DataError: an unknown name, or data that is missing or damaged; the message names the file.
    """
    if config.dataset == "digits":
        return load_digits()
    if config.dataset in SOURCES:
        return load_download(config.dataset, config.root, config.validation)
    raise DataError(f"data.dataset: {config.dataset}: no such data set{suggestion(config.dataset, ['digits', *SOURCES])}")
