"""Products by either library are those of float64, whatever the layout; small ones and other types stay torch's own."""

import pytest
import torch

from tiedae_cli.model import products
from tiedae_cli.model.products import SMALLEST, multiply


@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("m", "k", "n"), [(128, 96, 100), (150, 784, 300), (3, 4, 5)])
def test_products_are_those_of_float64(
    m: int, k: int, n: int, biased: bool, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if onednn and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(products, "prefers_onednn", lambda: onednn)
    generator = torch.Generator().manual_seed(0)
    a, b, bias = (torch.randn(shape, generator=generator) for shape in ((m, k), (k, n), (n,)))
    expected = a.double() @ b.double() + (bias.double() if biased else 0)
    for left in (a, a.t().contiguous().t(), torch.cat([a, a])[:m]):
        for right in (b, b.t().contiguous().t()):
            out = torch.full((2 * m, n), 7.0)
            found = multiply(left, right, out[:m], bias if biased else None)
            assert found.data_ptr() == out.data_ptr()
            torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
            assert (out[m:] == 7).all()


def test_the_library_follows_from_the_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same product has the same bits each time, and one below the limit has torch's."""
    monkeypatch.setattr(products, "prefers_onednn", lambda: torch.backends.mkldnn.is_available())
    small, large = torch.randn(64, 64), torch.randn(128, 128)
    assert small.numel() * 64 < SMALLEST <= large.numel() * 128
    assert torch.equal(multiply(small, small, torch.empty(64, 64)), small @ small)
    assert torch.equal(multiply(large, large, torch.empty(128, 128)), multiply(large, large, torch.empty(128, 128)))
