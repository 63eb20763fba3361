"""Feature vectors are standardised: each feature minus its mean over the training split, divided by its standard deviation.

Shapes: N items, D features.
"""

from dataclasses import replace

import torch

from tiedae_cli.data.image_set import BLOCK_BYTES, DataForm, ImageSet

SMALLEST_DEVIATION = 1e-30  # its inverse still fits float32
RESOLUTION = {torch.float64: 1e-15}  # a deviation below this part of the mean is rounding; of other types float32's


def standardised(train: ImageSet) -> DataForm:
    """Return the form that gives each feature of the training split mean 0 and standard deviation 1 (the population's, / N).

    A constant feature has no deviation to divide by: it gets scale 1. One pass in float64, in blocks whose means and squared
    deviations are merged (Chan, Golub & LeVeque 1979), which stays exact where a mean is large beside its deviation.
    """
    count, features = 0, train.form.pixels
    mean = torch.zeros(features, dtype=torch.float64)
    squares = torch.zeros_like(mean)  # squared deviations from the mean, summed
    size = max(1, BLOCK_BYTES // (8 * features))
    for start in range(0, len(train), size):
        block = train.raw(start, start + size).to(torch.float64)  # (B, D)
        block_mean = block.mean(0)
        shift, total = block_mean - mean, count + len(block)
        squares += (block - block_mean).square_().sum(0) + shift.square() * (count * len(block) / total)
        mean += shift * (len(block) / total)
        count = total
    deviation = (squares / count).sqrt()
    constant = deviation <= (mean.abs() * RESOLUTION.get(train.images.dtype, 1e-7)).clamp(min=SMALLEST_DEVIATION)
    scale = torch.where(constant, 1.0, 1 / deviation)
    return replace(train.form, offset=mean, scale=scale)
