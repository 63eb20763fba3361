"""Scores are judged by the labels of those items that have one."""

import torch

from tiedae_cli.scoring.labels import Labelled


def test_a_score_is_judged_by_the_labels_that_there_are() -> None:
    judged = Labelled(())
    judged.add(["0.0", "", "1", "nan"], torch.tensor([1.0, 9.0, 2.0, 0.0]))
    judged.add(None, torch.tensor([5.0]))
    assert (judged.labels, judged.unlabelled, judged.why_not()) == (["0", "1"], 2, None)
    assert judged.values(None)["auroc"] == 1.0
    nothing = Labelled(())
    nothing.add(["", "NA"], torch.tensor([1.0, 2.0]))
    assert (nothing.labels, nothing.unlabelled, nothing.why_not()) == ([], 2, None)
