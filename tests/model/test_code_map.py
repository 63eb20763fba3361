"""Where items lie in the space of codes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from log_capture import captured_log, silently
from small_runs import CPU, untrained

from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.model import code_map as code_maps
from tiedae_cli.model.code_map import map_codes
from tiedae_cli.output import figures

VECTORS = ItemForm((1, 1, 6), "vectors", np.arange(6.0), np.full(6, 2.0))


@pytest.mark.slow
def test_a_code_of_two_numbers_is_used_as_the_map() -> None:
    test = load_splits(untrained(VECTORS).config.data).test
    model = untrained(test.form, hidden_sizes=[9, 2]).model(CPU)
    code_map = silently(map_codes, model, test)
    with torch.inference_mode():
        torch.testing.assert_close(code_map.points, model.encode(torch.from_numpy(test.batch(0, 300))))
    assert test.labels is not None and code_map.labels is not None
    assert code_map.labels.tolist() == test.labels.tolist()
    assert code_map.axes == ("code, number 1", "code, number 2") and code_map.label_names is None
    words = tuple("zero one two three four five six seven eight nine".split())
    named = silently(map_codes, model, replace(test, label_names=words))
    assert named.label_names == words
    drawn = figures.code_map(named.points.numpy(), named.labels, named.axes, "codes", named.label_names)
    assert drawn != figures.code_map(named.points.numpy(), named.labels, named.axes, "codes")


def test_a_longer_code_is_projected_on_its_two_principal_components() -> None:
    test = load_splits(untrained(VECTORS).config.data).test
    model = untrained(test.form, hidden_sizes=[20, 8]).model(CPU)
    code_map = silently(map_codes, model, test)
    with torch.inference_mode():
        codes = model.encode(torch.from_numpy(test.batch(0, 300))).double().numpy()
    centered = codes - codes.mean(0)
    left, values, _ = np.linalg.svd(centered, full_matrices=False)
    np.testing.assert_allclose(np.abs(code_map.points.numpy()), np.abs(left[:, :2] * values[:2]), atol=1e-4)
    shares = 100 * values**2 / (values**2).sum()
    assert code_map.axes[0] == f"codes, first principal component: {shares[0]:.0f}% of their variance"
    assert code_map.axes[1] == f"codes, second principal component: {shares[1]:.0f}% of their variance"


def test_a_code_of_one_number_is_spread_randomly_and_labelled_so() -> None:
    test = load_splits(untrained(VECTORS).config.data).test
    model = untrained(test.form, hidden_sizes=[1]).model(CPU)
    code_map = silently(map_codes, model, test)
    with torch.inference_mode():
        torch.testing.assert_close(code_map.points[:, :1], model.encode(torch.from_numpy(test.batch(0, 300))))
    assert code_map.axes == ("code", "no meaning: random spread")


@pytest.mark.parametrize("count", [1, 2])
def test_a_map_of_one_or_two_equal_items_has_no_nan(count: int) -> None:
    images = ItemSet(np.ones((count, 1, 1, 6), np.float32), None, VECTORS)
    code_map = silently(map_codes, untrained(VECTORS).model(CPU), images)
    assert code_map.points.shape == (count, 2)
    assert code_map.points.isfinite().all()
    assert all("0% of their variance" in name for name in code_map.axes)


def test_a_map_of_many_items_is_a_sample_with_matching_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_maps, "MOST_POINTS", 40)
    test = load_splits(untrained(VECTORS).config.data).test
    model = untrained(test.form, hidden_sizes=[2]).model(CPU)
    with captured_log() as said:
        code_map = map_codes(model, test)
    assert said == ["40 of the 300 items, chosen at random"]
    with torch.inference_mode():
        codes = model.encode(torch.from_numpy(test.batch(0, 300)))  # (300, 2)
    nearest = torch.cdist(code_map.points, codes).argmin(1)
    assert len(set(nearest.tolist())) == 40
    assert test.labels is not None and code_map.labels is not None
    assert code_map.labels.tolist() == test.labels[nearest].tolist()
