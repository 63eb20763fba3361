"""What a checkpoint says of itself: layers, parameters, how it was trained; and where items lie in the space of codes.

Shapes: N items, K numbers of a code.
"""

import contextlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm, ItemSet, choose
from tiedae_cli.errors import CheckpointError
from tiedae_cli.model import pca
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.inference import batch_size
from tiedae_cli.model.item_batches import as_seen
from tiedae_cli.output import figures
from tiedae_cli.runs import checkpoint as checkpoints
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.runs.training_state import EpochReport

log = logging.getLogger(__name__)

MOST_POINTS = 5_000  # of a map: more only cover each other


@dataclass(frozen=True)
class LayerSummary:
    """One of the 2L layers, in the order of the computation."""

    name: str
    """``encoder 1`` ... ``encoder L``, ``decoder 1`` ... ``decoder L``."""
    kind: str
    """As the config words it; a decoder's is that of the encoder's layer that it mirrors."""
    inputs: int
    outputs: int
    activation: str
    transpose_of: str | None
    """The layer whose weight this one uses transposed; None where the weight is its own."""
    parameters: int
    """Of this layer alone: a weight counts where it is first used."""


@dataclass(frozen=True)
class TrainingSummary:
    """How far a run came and how well."""

    epochs: int
    """Epochs that the run has finished."""
    checkpoint_epochs: int
    """Epochs behind the weights of this checkpoint."""
    seconds: float
    """Of all finished epochs' steps."""
    best: EpochReport | None
    """The best epoch; None before the first is finished."""


@dataclass(frozen=True)
class CodeMap:
    """Items as points of a plane."""

    points: Tensor
    """(N, 2) float32"""
    labels: np.ndarray | None
    """(N,) int64"""
    axes: tuple[str, str]
    """What the two coordinates are."""
    label_names: tuple[str, ...] | None = None
    """What the labels stand for, where they are words."""


def summarise_layers(model: TiedAutoencoder) -> list[LayerSummary]:
    """Return the model's layers, encoder then decoder."""
    encoders = [
        LayerSummary(
            f"encoder {number}",
            one.describe(),
            one.inputs,
            one.outputs,
            one.activation,
            transpose_of=None,
            parameters=one.weight.numel() + one.encoder_bias.numel(),
        )
        for number, one in enumerate(model.layers, 1)
    ]
    decoders = [
        LayerSummary(
            f"decoder {len(model.layers) - level + 1}",
            one.describe(),
            one.outputs,
            one.inputs,
            one.decoder_activation,
            transpose_of=f"encoder {level}" if one.tied else None,
            parameters=one.decoder_bias.numel() + (0 if one.tied else one.transposed.numel()),
        )
        for level, one in reversed(list(enumerate(model.layers, 1)))
    ]
    return encoders + decoders


def parameter_count(model: TiedAutoencoder, tied: bool) -> int:
    """Return the parameters that a model of this shape has, tied or not."""
    return sum(
        layer.weight.numel() * (1 if tied else 2) + layer.encoder_bias.numel() + layer.decoder_bias.numel()
        for layer in model.layers
    )


def run_history(path: Path, trained: Checkpoint) -> list[EpochReport]:
    """Return the reports of all epochs that the checkpoint's run has finished: ``best.safetensors`` itself ends with the best one.

    Args:
        path: the checkpoint.
        trained: what it holds.
    """
    history = trained.training.history
    last = Run(path.parent).last
    if last.exists():
        with contextlib.suppress(CheckpointError):  # damaged: then the checkpoint's own history is all there is
            longer = checkpoints.load(last).training.history
            if longer[: len(history)] == history:
                history = longer
    return list(history)


def summarise_training(path: Path, trained: Checkpoint) -> TrainingSummary:
    """Return how far the run of a checkpoint came, from the checkpoint and from ``last.safetensors`` beside it."""
    history = run_history(path, trained)
    return TrainingSummary(
        epochs=len(history),
        checkpoint_epochs=len(trained.training.history),
        seconds=sum(report.seconds for report in history),
        best=next((report for report in reversed(history) if report.best), None),
    )


@torch.inference_mode()
def map_codes(model: TiedAutoencoder, images: ItemSet) -> CodeMap:
    """Return the codes of a split as points: the code itself where it has two numbers, else its two principal components.

    Args:
        model: on the CPU.
        images: the split; beyond ``MOST_POINTS`` items a random choice of them, always the same.
    """
    if len(images) > MOST_POINTS:
        log.info(f"{MOST_POINTS:,} of the {len(images):,} items, chosen at random")
        images = choose(images, MOST_POINTS, 0)
    size, cpu = batch_size(images), torch.device("cpu")
    codes = torch.cat([model.encode(as_seen(images, i, i + size, cpu)) for i in range(0, len(images), size)])  # (N, K)
    return plane_of(codes, images.labels, images.readable_names)


def plane_of(codes: Tensor, labels: np.ndarray | None = None, label_names: tuple[str, ...] | None = None) -> CodeMap:
    """Return codes, (N, K), as points: the code itself where it has two numbers, else its two principal components."""
    points, axes = codes, ("code, number 1", "code, number 2")
    if codes.shape[1] == 1:
        spread = torch.rand(len(codes), 1, generator=torch.Generator().manual_seed(0))
        points, axes = torch.cat([codes, spread], 1), ("code", "no meaning: spread at random")
    if codes.shape[1] > 2:
        points, axes = _two_components(codes)
    return CodeMap(points, labels, axes, label_names)


def _two_components(codes: Tensor) -> tuple[Tensor, tuple[str, str]]:
    """Project codes, (N, K), on their two strongest components, (N, 2), and name the axes with their share of the variance."""
    count, width = codes.shape
    form = ItemForm((1, 1, width), kind="vectors")
    fitted = pca.fit(ItemSet(codes.reshape(count, 1, 1, width).numpy(), None, form), 2)
    points = fitted.codes(codes)
    points = F.pad(points, (0, 2 - points.shape[1]))  # a single item has no second component
    total = codes.double().var(0, correction=0).sum()
    shares = (points.double().var(0, correction=0) / total).nan_to_num().tolist()
    first, second = (f"{100 * share:.0f}% of their variance" for share in shares)
    return points, (f"codes, first principal component: {first}", f"codes, second principal component: {second}")


def draw_features(run: OpenRun) -> bytes:
    """Draw the first layer's weights as images, the strongest first, and return the PNG.

    Raises:
        InputError: the model's items are no pictures.
    """
    run.refuse_vectors(f"--features: draws weights as images, but {run.path} takes {run.form.describe()}")
    features = run.network.layers[0].features(run.form.shape)
    weight, (_, channels, height, width) = features.flatten(1), features.shape
    form = replace(run.form, shape=(channels, height, width))
    drawn = min(len(weight), figures.MOST_FEATURES)
    colours = "blue below zero, red above" if run.form.shape[0] < 3 else "middle gray at zero"
    log.info(f"--features: the strongest {drawn} of {len(weight):,}, each scaled by its largest weight; {colours}")
    return figures.feature_grid(weight.detach().cpu().numpy(), form, run.trained.run)


def draw_codes(run: OpenRun, split: str) -> bytes:
    """Draw the codes of a split as points of a plane, coloured by label, and return the PNG."""
    code_map = map_codes(run.network, run.split(split))
    title = f"{len(code_map.points):,} codes of {run.splits.source}, {split} split, run {run.trained.run}"
    return figures.code_map(code_map.points.numpy(), code_map.labels, code_map.axes, title, code_map.label_names)
