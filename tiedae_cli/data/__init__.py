"""Every source of data becomes the same thing: ``Splits`` of ``ItemSet``."""

from tiedae_cli.data.item_set import ItemForm, ItemSet, Splits, check_split, choose
from tiedae_cli.data.load_data import load_splits

__all__ = ["ItemForm", "ItemSet", "Splits", "check_split", "choose", "load_splits"]
