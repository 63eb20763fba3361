"""Cross-validation: each fold is held out once, and the table is that of single trainings."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest

import tiedae
from tiedae_cli.data.item_set import permutation

X = np.random.default_rng(0).normal([5.0, -300.0, 1e4, 0.1], [1.0, 20.0, 500.0, 2.0], (90, 4))
SMALL: dict[str, Any] = {"epochs": 2, "hidden_sizes": [6, 2], "batch_size": 20}


@pytest.mark.slow
def test_the_table_is_that_of_single_trainings(empty_folder: Path) -> None:
    found = tiedae.cross_validate(X, folds=3, seeds=[1, 2], **SMALL)
    assert [(one["fold"], one["seed"]) for one in found.trainings] == [(fold, seed) for fold in range(3) for seed in (1, 2)]
    held = np.sort(np.array_split(permutation(0, 90), 3)[1])
    run = tiedae.train(np.delete(X, held, 0), test=0, seed=2, quiet=True, **SMALL)
    again = run.model.evaluate(X[held])
    assert found.trainings[3]["model"] == again["model"] and found.trainings[3]["pca"] == again["pca"]
    errors = np.array([one["model"]["mse_per_value"] for one in found.trainings])
    assert found.table["model"]["mse_per_value"] == pytest.approx((errors.mean(), errors.std(ddof=1) / 6**0.5))
    assert "6 trainings" in repr(found) and "PCA" in repr(found) and "<table>" in found._repr_html_()
    assert os.listdir() == []


@pytest.mark.slow
def test_folds_of_tables_are_those_of_arrays(empty_folder: Path) -> None:
    table = pyarrow.table(dict(zip("abcd", X.T, strict=True)))
    by_array = tiedae.cross_validate(X, folds=2, **SMALL)
    assert tiedae.cross_validate(table, folds=2, **SMALL).table == by_array.table
    with pytest.raises(tiedae.InputError, match="folds: 1: expected from 2 to 90"):
        tiedae.cross_validate(X, folds=1)
