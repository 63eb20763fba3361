"""Prepare a batch for the model: gather, flip, shift, scale and corrupt items in reusable buffers.

B items per batch (of this process), D values per item.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tiedae_cli.config import TrainingConfig
from tiedae_cli.model.corruption import NOISE, Draw, corrupted
from tiedae_cli.system.random_streams import CORRUPTION, FLIPS, SHIFTS, seeded
from tiedae_cli.training.training_set import TrainingSet


class Batch:
    """Fills the gradient's input (and target) with the items of a step.

    Args:
        items: the training split, for the device of the buffers.
        training: corruption, flip and shift.
        input: (B, D), input of the model.
        target: (B, D), target of the reconstruction; the same memory as ``input`` unless the input is corrupted.
        share: position of this process's first item in the global batch, and the number of items of the global batch;
            None: ``input`` is the global batch.
    """

    def __init__(
        self, items: TrainingSet, training: TrainingConfig, input: Tensor, target: Tensor, share: tuple[int, int] | None = None
    ) -> None:
        self.items = items
        self.rows = items.rows  # (M, D) raw
        self.form = items.form
        self.training = training
        self.input = input
        self.target = target
        self.start, self.count = share or (0, len(input))
        self.raw = self.rows.new_empty(input.shape)
        self.scale = torch.as_tensor(self.form.scale, dtype=input.dtype, device=input.device)
        self.generator = torch.Generator(device=input.device)
        self.mirrored = [mirrored(side, training.shift).to(input.device) for side in self.form.shape[1:]]
        # Whether each step needs the host: to seed random choices, or to read data that does not fit on the device.
        draws = training.corruption != "none" or training.shift > 0 or training.flip
        self.needs_host = draws or self.rows.device != input.device

    def fill(self, indices: Tensor, epoch: int, step: int) -> None:
        """Fill the buffers with the items at ``indices``, (B,); random choices are a function of (seed, epoch, step)."""
        torch.index_select(self.rows, 0, indices.to(self.rows.device), out=self.raw)
        raw = self.raw.to(self.input.device)
        if self.training.flip:
            raw = self._flipped(raw, epoch, step)
        if self.training.shift:
            raw = self._shifted(raw, epoch, step)
        if self.form.offset is not None:
            self.target.copy_(self.items.normalize(raw))  # in float32: bfloat16 would lose everything beside a large offset
        else:
            self.target.copy_(raw).mul_(self.scale)  # converted, then scaled: faster than a product of mixed types
        if self.training.corruption != "none":
            self._corrupt(epoch, step)

    def _noise(self, draw: Draw, shape: tuple[int, ...], *stream: int) -> Tensor:
        """Draw numbers for the global batch, (all processes' B, ...), and return this process's share, (B, ...)."""
        self.generator.manual_seed(seeded(self.training.seed, *stream).initial_seed())
        numbers = draw((self.count, *shape[1:]), generator=self.generator, device=self.input.device)
        return numbers[self.start : self.start + shape[0]]

    def _flipped(self, raw: Tensor, epoch: int, step: int) -> Tensor:
        """Return the raw batch, (B, D), with each image mirrored horizontally with probability 1/2."""
        images = raw.view(-1, *self.form.shape)
        mirrored = self._noise(torch.rand, (len(images), 1, 1, 1), FLIPS, epoch, step) < 0.5
        return torch.where(mirrored, images.flip(3), images).view(len(images), -1)

    def _shifted(self, raw: Tensor, epoch: int, step: int) -> Tensor:
        """Return the raw batch with each image shifted by up to ``shift`` pixels, filled with zeros or mirrored pixels."""
        reach, (channels, height, width) = self.training.shift, self.form.shape
        images = raw.view(-1, channels, height, width)
        if self.training.shift_edges == "mirror":
            rows, columns = self.mirrored
            padded = images[:, :, rows][:, :, :, columns]
        else:
            padded = F.pad(images, (reach, reach, reach, reach))
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 2 reach + 1, 2 reach + 1, H, W), a view
        count = len(images)
        moves = (self._noise(torch.rand, (count, 2), SHIFTS, epoch, step) * (2 * reach + 1)).to(torch.int64)  # (B, 2)
        return windows[torch.arange(count, device=images.device), :, moves[:, 0], moves[:, 1]].reshape(count, -1)

    def _corrupt(self, epoch: int, step: int) -> None:
        """Write the corrupted batch to ``input``; the target stays clean (Vincent et al. 2010, section 3)."""
        kind = self.training.corruption
        noise = self._noise(NOISE[kind], tuple(self.target.shape), CORRUPTION, epoch, step)
        self.input.copy_(corrupted(self.target, kind, self.training.corruption_level, noise))


def mirrored(side: int, reach: int) -> Tensor:
    """Return the indices that pad a side by ``reach`` mirrored pixels at both ends, (side + 2 reach,) int64.

    The end pixels are not repeated: three pixels and a reach of two give 2 1 0 1 2 1 0.
    """
    period = max(1, 2 * (side - 1))
    places = torch.arange(-reach, side + reach) % period
    return torch.minimum(places, period - places)
