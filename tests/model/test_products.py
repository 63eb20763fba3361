"""Products by either library are those of float64, whatever the layout; small ones and other types stay torch's own."""

from types import SimpleNamespace

import pytest
import torch

from tiedae_cli.model import products
from tiedae_cli.model.products import SMALLEST, multiply


@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("m", "k", "n"), [(128, 96, 100), (150, 784, 300), (3, 4, 5)])
def test_products_match_float64(m: int, k: int, n: int, biased: bool, onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_library_depends_only_on_the_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same product has the same bits each time, and one below the limit has torch's."""
    monkeypatch.setattr(products, "prefers_onednn", lambda: torch.backends.mkldnn.is_available())
    small, large = torch.randn(64, 64), torch.randn(128, 128)
    assert small.numel() * 64 < SMALLEST <= large.numel() * 128
    assert torch.equal(multiply(small, small, torch.empty(64, 64)), small @ small)
    assert torch.equal(multiply(large, large, torch.empty(128, 128)), multiply(large, large, torch.empty(128, 128)))


@pytest.mark.parametrize("broken", ["removed", "with other arguments", "with another result"])
def test_torchs_own_product_is_used_if_the_private_operator_is_gone_or_changed(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the processor would prefer it."""

    def takes_nothing() -> None: ...

    def gives_zeros(a: torch.Tensor, b: torch.Tensor, *_: object) -> torch.Tensor:
        return torch.zeros(len(a), len(b))

    operators = {
        "removed": SimpleNamespace(),
        "with other arguments": SimpleNamespace(_linear_pointwise=takes_nothing),
        "with another result": SimpleNamespace(_linear_pointwise=gives_zeros),
    }
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(products, "is_amd", lambda: True)
    monkeypatch.setattr(torch.ops, "mkldnn", operators[broken])
    products.prefers_onednn.cache_clear()
    try:
        a, b = torch.randn(150, 784), torch.randn(784, 300)
        assert not products.prefers_onednn()
        assert torch.equal(multiply(a, b, torch.empty(150, 300)), a @ b)
    finally:
        products.prefers_onednn.cache_clear()


def test_the_private_operator_is_right_on_this_torch() -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    assert products.onednn_multiplies()
