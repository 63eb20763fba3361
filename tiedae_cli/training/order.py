"""The order in which an epoch visits the items: shuffled as a whole, or in blocks if the data is larger than memory."""

import logging

import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.system.memory_limits import total_memory
from tiedae_cli.system.random_streams import block_order, epoch_order
from tiedae_cli.training.training_set import TrainingSet

log = logging.getLogger(__name__)

BLOCK_BYTES = 8 << 20  # per block of neighboring items; disks read blocks of this size at almost full speed
WINDOW = 64  # blocks that are shuffled together, 512 MB
PAGE = 4096  # bytes


def shuffle_of(items: ItemSet, asked: str) -> str:
    """Return how to shuffle a set, ``items`` or ``blocks``; ``auto`` depends on its size and this machine's memory."""
    if asked != "auto":
        return asked
    if items.share is not None:  # it is in memory
        return "items"
    size, memory = len(items) * items.form.values_per_item * items.values.itemsize, total_memory()
    if size <= memory // 2:
        return "items"
    log.info(
        f"{size / 1e9:.1f} GB of training items, {memory / 1e9:.1f} GB of memory: shuffled in blocks to read the disk "
        "sequentially (training.shuffle=items shuffles all items)"
    )
    return "blocks"


class Order:
    """The order of the items in each epoch, a function of (seed, epoch), with read-ahead.

    Args:
        items: the training split.
        shuffle: ``items`` or ``blocks``.
        seed: random seed.
    """

    def __init__(self, items: TrainingSet, shuffle: str, seed: int) -> None:
        self.items, self.seed = items, seed
        self.in_blocks = shuffle == "blocks"
        self.block = max(1, BLOCK_BYTES // max(1, items.form.values_per_item * items.rows.element_size()))
        self.window = self.block * WINDOW
        """Number of items that are shuffled together."""
        self.read = -1

    def of(self, epoch: int) -> Tensor:
        """Return the order of an epoch as positions in ``items.rows``, (N,) int64 on the CPU."""
        self.read = -1
        count = len(self.items)
        order = (
            block_order(self.seed, epoch, count, self.block, WINDOW) if self.in_blocks else epoch_order(self.seed, epoch, count)
        )
        return self.items.positions(order)

    def read_ahead(self, order: Tensor, item: int) -> None:
        """Read the window of the ``item``-th item of an order sequentially from disk, unless that is done."""
        on_disk = self.items.share is None and self.items.rows.device.type == "cpu"
        if not self.in_blocks or item // self.window == self.read or not on_disk:
            return
        self.read = item // self.window
        within = order[self.read * self.window : (self.read + 1) * self.window].sort().values
        rows = self.items.rows
        gaps = (within.diff() > self.block).nonzero().view(-1) + 1  # runs of rows without a gap as large as a block
        for run in torch.tensor_split(within, gaps.cpu()):
            rows[int(run[0]) : int(run[-1]) + 1, :: max(1, PAGE // rows.element_size())].max()  # touches each of its pages
