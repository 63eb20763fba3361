"""Every source of data becomes the same thing: ``Splits`` of ``ImageSet``."""

from tiedae_cli.data.image_set import DataForm, ImageSet, Splits, check_split, choose
from tiedae_cli.data.loading import load_splits

__all__ = ["DataForm", "ImageSet", "Splits", "check_split", "choose", "load_splits"]
