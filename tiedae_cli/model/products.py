"""Matrix products by the faster of torch's two libraries, MKL and oneDNN.

torch's float32 products are MKL's, which leaves AVX-512 unused on AMD's processors; oneDNN, beside it in torch, does not: on an EPYC
it is twice as fast. The choice depends only on the processor and the shapes, so a resumed training is bit-identical.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from tiedae_cli.system.portability import is_amd

Call = Callable[[], object]
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
    return _onednn(a, b, bias)()


def _onednn(a: Tensor, b: Tensor, bias: Tensor | None) -> Callable[[], Tensor]:
    return partial(torch.ops.mkldnn._linear_pointwise, a, b.t(), bias, "none", [], "")


@dataclass(frozen=True)
class Prepared:
    """A product of the values that its operands hold when it is called; what depends only on their shapes is decided before.

    A step calls it hundreds of times per second, each time after another product has evicted Python's code from the caches.
    """

    call: Callable[[], Tensor]
    result: Tensor | None
    """Where the result is after each call; None: in new memory each time."""

    def then(self, use: Callable[[Tensor], Sequence[Call]]) -> list[Call]:
        """Return the calls that multiply and then do what ``use`` returns for the result."""
        if self.result is not None:
            return [self.call, *use(self.result)]

        def both() -> None:
            for call in use(self.call()):
                call()

        return [both]

    def into(self, memory: Tensor) -> list[Call]:
        """Return the calls that multiply and leave the result in the given memory, of any shape with as many values."""

        def copied(result: Tensor) -> list[Call]:
            return [] if result.data_ptr() == memory.data_ptr() else [partial(memory.copy_, result.view(memory.shape))]

        return self.then(copied)


def prepare(a: Tensor, b: Tensor, memory: Tensor, bias: Tensor | None = None) -> Prepared:
    """Prepare A B, plus a bias on each row, by the faster library, in ``memory`` or in new memory; no gradients.

    Args:
        a: (m, k)
        b: (k, n)
        memory: (m, n)
        bias: (n,)
    """
    size = a.shape[0] * a.shape[1] * b.shape[1]
    if size >= SMALLEST and memory.dtype == torch.float32 and memory.device.type == "cpu" and prefers_onednn():
        return Prepared(_onednn(a, b, bias), None)
    if bias is None:
        return Prepared(partial(torch.mm, a, b, out=memory), memory)
    return Prepared(partial(torch.addmm, bias, a, b, out=memory), memory)


def multiply(a: Tensor, b: Tensor, out: Tensor, bias: Tensor | None = None) -> Tensor:
    """Write A B, plus a bias on each row, to ``out``, which is returned."""
    found = prepare(a, b, out, bias).call()  # and not ``into``: optimizers call this many times in each step
    return found if found is out else out.copy_(found)
