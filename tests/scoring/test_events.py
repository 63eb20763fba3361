"""Events are the runs of outlying items of one series, however the stream is cut into blocks."""

from itertools import groupby

import numpy as np
import torch

from tiedae_cli.data.item_set import Block, ItemForm
from tiedae_cli.data.origin import Origin
from tiedae_cli.scoring.events import EventJoiner
from tiedae_cli.scoring.scored import Scored

FORM = ItemForm((1, 1, 1), "vectors")


def test_events_do_not_depend_on_how_a_stream_is_cut() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        count = int(generator.integers(1, 40))
        scores = generator.integers(0, 3, count)
        gaps = generator.random(count) < 0.2
        places = np.arange(count) + np.cumsum(gaps)
        series = np.cumsum(generator.random(count) < 0.1)
        cuts = {0, count, *generator.integers(0, count, 4).tolist(), *(np.flatnonzero(np.diff(series)) + 1).tolist()}
        joiner = EventJoiner(1.0, FORM, 3)
        blocks = []
        for start, stop in zip(sorted(cuts), sorted(cuts)[1:], strict=False):
            origin = Origin(places=places[start:stop])
            block = Block(range(start, stop), np.zeros((stop - start, 1), np.float32), int(series[start]), origin=origin)
            blocks.append(Scored(block, torch.from_numpy(scores[start:stop]).double()))
        found = []
        for _ in joiner.watch(blocks):
            found += joiner.take()
        found += joiner.take()
        keys = [(scores[i] > 1, series[i], places[i] - i) for i in range(count)]
        runs = [list(run) for key, run in groupby(range(count), key=lambda i: keys[i]) if key[0]]
        assert [(one.first.item, one.last.item, one.rows) for one in found] == [(run[0], run[-1], len(run)) for run in runs]
        assert [one.peak.item for one in found] == [max(run, key=lambda i: scores[i]) for run in runs]
        assert joiner.count == len(runs)
