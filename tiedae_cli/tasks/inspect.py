"""The pictures of the ``inspect`` command: a model's features, and a map of a split's codes."""

import logging
from dataclasses import replace

from tiedae_cli.config.shareable import last_part
from tiedae_cli.model.code_map import map_codes
from tiedae_cli.output import figures
from tiedae_cli.runs.trained_run import OpenRun

log = logging.getLogger(__name__)


def draw_features(run: OpenRun) -> bytes:
    """Draw the first layer's weights as images, strongest first; return the PNG.

    Raises:
        InputError: the model's items are not images.
    """
    run.refuse_vectors(f"--features needs an image model; {run.path} takes {run.form.describe()}")
    features = run.network.features(run.form.shape)
    weight, (_, channels, height, width) = features.flatten(1), features.shape
    form = replace(run.form, shape=(channels, height, width))
    drawn = min(len(weight), figures.MOST_FEATURES)
    colors = "blue below zero, red above" if run.form.shape[0] < 3 else "middle gray at zero"
    log.info(f"--features: {drawn} strongest of {len(weight):,}, each scaled by its largest weight; {colors}")
    return figures.feature_grid(weight.detach().cpu().numpy(), form, run.trained.run)


def draw_codes(run: OpenRun, split: str) -> bytes:
    """Draw the codes of a split as points in a plane, colored by label; return the PNG."""
    code_map = map_codes(run.network, run.split(split))
    title = f"{len(code_map.points):,} codes of {last_part(run.splits.source)}, {split} split, run {run.trained.run}"
    return figures.code_map(code_map.points.numpy(), code_map.labels, code_map.axes, title, code_map.label_names)
