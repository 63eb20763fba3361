"""The order in which an epoch visits the items: all mixed, or block by block where the data is larger than the memory."""

import logging

import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.system.memory import total_memory
from tiedae_cli.system.random_streams import block_order, epoch_order
from tiedae_cli.training.training_set import TrainingSet

log = logging.getLogger(__name__)

BLOCK_BYTES = 8 << 20  # of neighboring items: a disk reads so much at once almost as fast as without end
WINDOW = 64  # blocks whose items are mixed: 512 MB, which any machine that trains has
PAGE = 4096  # bytes


def shuffle_of(items: ItemSet, asked: str) -> str:
    """Return how a set is shuffled, ``items`` or ``blocks``: as asked, else by its size beside the whole memory of this machine."""
    if asked != "auto":
        return asked
    size, memory = len(items) * items.form.values_per_item * items.values.itemsize, total_memory()
    if size <= memory // 2:
        return "items"
    log.info(
        f"{size / 1e9:.1f} GB of training items, {memory / 1e9:.1f} GB of memory: shuffled in blocks, so that the disk is read "
        "forwards (training.shuffle=items mixes all)"
    )
    return "blocks"


class Order:
    """The order of the items of a set in each epoch, a function of (seed, epoch), and reading ahead of it.

    Args:
        items: the training split.
        shuffle: ``items`` or ``blocks``.
        seed: of all orders.
    """

    def __init__(self, items: TrainingSet, shuffle: str, seed: int) -> None:
        self.items, self.seed = items, seed
        self.in_blocks = shuffle == "blocks"
        self.block = max(1, BLOCK_BYTES // max(1, items.form.values_per_item * items.rows.element_size()))
        self.window = self.block * WINDOW
        """Items that are mixed."""
        self.read = -1

    def of(self, epoch: int) -> Tensor:
        """Return an epoch's order as positions in ``items.rows``, (N,) int64 on the CPU."""
        self.read = -1
        count = len(self.items)
        order = (
            block_order(self.seed, epoch, count, self.block, WINDOW) if self.in_blocks else epoch_order(self.seed, epoch, count)
        )
        return self.items.positions(order)

    def read_ahead(self, order: Tensor, item: int) -> None:
        """Before the ``item``-th item of an order is needed: read its window forwards from the disk, if that was not done yet."""
        if not self.in_blocks or item // self.window == self.read or self.items.rows.device.type != "cpu":
            return
        self.read = item // self.window
        within = order[self.read * self.window : (self.read + 1) * self.window].sort().values
        rows = self.items.rows
        gaps = (within.diff() > self.block).nonzero().view(-1) + 1  # a run of rows without a hole as large as a block
        for run in torch.tensor_split(within, gaps.cpu()):
            rows[int(run[0]) : int(run[-1]) + 1, :: max(1, PAGE // rows.element_size())].max()  # touches each of its pages
