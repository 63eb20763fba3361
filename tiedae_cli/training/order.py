"""The order in which an epoch visits the items: all mixed, or block by block where the data is larger than the memory."""

import logging

import psutil
import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.system.random_streams import block_order, epoch_order

log = logging.getLogger(__name__)

BLOCK_BYTES = 8 << 20  # of neighbouring items: a disk reads so much at once almost as fast as without end
WINDOW = 64  # blocks whose items are mixed: 512 MB, which any machine that trains has
PAGE = 4096  # bytes


def shuffle_of(images: ItemSet, asked: str) -> str:
    """Return how a set is shuffled, ``items`` or ``blocks``: as asked, else by its size beside the whole memory of this machine."""
    if asked != "auto":
        return asked
    size, memory = len(images) * images.images[0].numel() * images.images.element_size(), psutil.virtual_memory().total
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
        images: the training split.
        shuffle: ``items`` or ``blocks``.
        seed: of all orders.
    """

    def __init__(self, images: ItemSet, shuffle: str, seed: int) -> None:
        self.images, self.seed = images, seed
        self.in_blocks = shuffle == "blocks"
        self.block = max(1, BLOCK_BYTES // max(1, images.form.pixels * images.images.element_size()))
        self.window = self.block * WINDOW
        """Items that are mixed."""
        self.read = -1

    def of(self, epoch: int) -> Tensor:
        """Return an epoch's order as positions in ``images.rows``, (N,) int64 on the CPU."""
        self.read = -1
        count = len(self.images)
        order = (
            block_order(self.seed, epoch, count, self.block, WINDOW) if self.in_blocks else epoch_order(self.seed, epoch, count)
        )
        return self.images.positions(order)

    def read_ahead(self, order: Tensor, item: int) -> None:
        """Before the ``item``-th item of an order is needed: read its window forwards from the disk, if that was not done yet."""
        if not self.in_blocks or item // self.window == self.read or self.images.rows.device.type != "cpu":
            return
        self.read = item // self.window
        within = order[self.read * self.window : (self.read + 1) * self.window].sort().values
        rows = self.images.rows
        gaps = (within.diff() > self.block).nonzero().view(-1) + 1  # a run of rows without a hole as large as a block
        for run in torch.tensor_split(within, gaps.cpu()):
            rows[int(run[0]) : int(run[-1]) + 1, :: max(1, PAGE // rows.element_size())].max()  # touches each of its pages
