"""The noise of denoising autoencoders (Vincent et al. 2010, section 3), one function per kind.

Shapes: B items per batch, D values per item.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Draw = Callable[..., Tensor]
NOISE: dict[str, Draw] = {"gaussian": torch.randn, "masking": torch.rand, "salt_and_pepper": torch.rand}


def corrupted(clean: Tensor, kind: str, level: float, noise: Tensor) -> Tensor:
    """Return items, (B, D), with noise.

    Args:
        clean: the items as the model sees them.
        kind: ``gaussian`` adds noise of standard deviation ``level``; ``masking`` sets that fraction of values to 0;
            ``salt_and_pepper`` sets it to 0 or 1, half each.
        level: the amount.
        noise: (B, D) random numbers: standard normal for ``gaussian``, else uniform in [0, 1).
    """
    if kind == "gaussian":
        return clean + noise * level
    if kind == "masking":
        return clean * (noise >= level)
    return torch.where(noise < level / 2, 0.0, torch.where(noise >= 1 - level / 2, 1.0, clean))
