"""Matrix products by the faster of torch's two libraries, MKL and oneDNN.

torch's float32 products are MKL's, which leaves AVX-512 unused on AMD's processors; oneDNN, beside it in torch, does not: on an EPYC
it is twice as fast. The choice depends only on the processor and the shapes, so a resumed training is bit-identical.
"""

import functools

import torch
from torch import Tensor

from tiedae_cli.system.portability import is_amd

SMALLEST = 1 << 20  # multiplications per product, above which the overhead of a call is negligible


@functools.cache
def prefers_onednn() -> bool:
    """Return whether large float32 products use oneDNN on this processor."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and torch.backends.cpu.get_cpu_capability() == "AVX512" and is_amd() and onednn_multiplies()


def onednn_multiplies() -> bool:
    """Return whether torch's private operator for oneDNN's products exists and gives the right result for a small one."""
    a, b, bias = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(3, 4), torch.arange(4.0)
    try:
        found: Tensor = onednn_product(a, b, bias)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.allclose(found, torch.addmm(bias, a, b))


def onednn_product(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    """Return A B, plus a bias on each row, by oneDNN in new memory; float32 on the CPU.

    Raises:
        AttributeError: this version of torch lacks the private operator.
    """
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.t(), bias, "none", [], "")
    return product


def product(a: Tensor, b: Tensor, memory: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return A B, plus a bias on each row, in ``memory`` or in new memory, as the faster library does it; no gradients.

    Args:
        a: (m, k)
        b: (k, n)
        memory: (m, n)
        bias: (n,)
    """
    size = a.shape[0] * a.shape[1] * b.shape[1]
    if size >= SMALLEST and memory.dtype == torch.float32 and memory.device.type == "cpu" and prefers_onednn():
        return onednn_product(a, b, bias)
    return torch.mm(a, b, out=memory) if bias is None else torch.addmm(bias, a, b, out=memory)


def multiply(a: Tensor, b: Tensor, out: Tensor, bias: Tensor | None = None) -> Tensor:
    """Write what ``product`` computes to ``out``, which is returned."""
    found = product(a, b, out, bias)
    return found if found is out else out.copy_(found)
