"""Brings each process the rows of its next steps, if the processes hold shares of the items: the order is that of one process.

All processes know the order of the epoch, so each knows which of its rows the others need, and no indices are sent.
Shapes: S steps that are exchanged at once, B items of a global batch, D values per item, n rows that arrive.
"""

import torch
from torch import Tensor

from tiedae_cli.data.shares import Share
from tiedae_cli.system.devices import Ranks

ARRIVING_BYTES = 1 << 22  # of the rows of one exchange


class ShareExchange:
    """The rows of the steps of an epoch.

    Args:
        rows: (m, D) raw values, those of this process's share.
        share: which rows these are.
        ranks: the processes.
        batch_size: B.
    """

    def __init__(self, rows: Tensor, share: Share, ranks: Ranks, batch_size: int) -> None:
        self.rows, self.share, self.ranks = rows, share, ranks
        self.bounds = [Ranks(rank, ranks.count).share(batch_size) for rank in range(ranks.count)]  # of each in a batch
        most = max(stop - start for start, stop in self.bounds)
        self.at_once = max(1, ARRIVING_BYTES // max(1, most * rows.shape[1] * rows.element_size()))
        self.batches = torch.zeros(0, 0, dtype=torch.int64)
        self.first = -1
        self.arrived = rows[:0]
        self.order = torch.zeros(0, 0, dtype=torch.int64)

    def begin_epoch(self, batches: Tensor) -> None:
        """Prepare for the batches of an epoch, (steps, B) int64 positions of the items among all rows."""
        self.batches, self.first = batches.cpu(), -1

    def step(self, step: int) -> tuple[Tensor, Tensor]:
        """Return rows and which of them this process needs in a step, (n, D) and (B of this process,); all call it together."""
        first = step // self.at_once * self.at_once
        if first != self.first:
            self.first = first
            self._exchange(self.batches[first : first + self.at_once])
        return self.arrived, self.order[step - first]

    def _exchange(self, batches: Tensor) -> None:
        owners = torch.from_numpy(self.share.owners(batches.numpy()))  # (S, B)
        places = torch.from_numpy(self.share.places(batches.numpy()))
        ranks = range(self.ranks.count)
        sent = [places[:, start:stop][owners[:, start:stop] == self.ranks.rank] for start, stop in self.bounds]
        start, stop = self.bounds[self.ranks.rank]
        mine = owners[:, start:stop].contiguous()  # (S, B of this process)
        received = [int((mine == rank).sum()) for rank in ranks]
        leaving = self.rows.index_select(0, torch.cat(sent).to(self.rows.device))
        self.arrived = self.rows[:0]  # its memory is reused
        self.arrived = self.ranks.exchange(leaving, [len(rows) for rows in sent], received)
        self.order = torch.empty_like(mine)
        self.order.view(-1)[mine.view(-1).argsort(stable=True)] = torch.arange(mine.numel())
