"""``tiedae inspect``: what a checkpoint says of itself, and pictures of its features and codes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiedae_cli.cli.commands.options import RUNS, Debug, Json, Model, Quiet, Split

if TYPE_CHECKING:
    from tiedae_cli.output.terminal import Terminal
    from tiedae_cli.runs.checkpoint import Checkpoint


def inspect(
    model: Model = None,
    features: Annotated[
        str | None,
        typer.Option(
            "--features", metavar="FILE|-", show_default=False, help="PNG of the first layer's weights, strongest first."
        ),
    ] = None,
    codes: Annotated[
        str | None,
        typer.Option("--codes", metavar="FILE|-", show_default=False, help="PNG of a split's codes as points of a plane."),
    ] = None,
    split: Split = "test",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print a model's layers and how it was trained. Draws its features and codes, if asked to."""
    import torch

    from tiedae_cli.cli.tables import facts_table, inspection_values, layer_table
    from tiedae_cli.data import check_split
    from tiedae_cli.errors import InputError
    from tiedae_cli.output.terminal import Terminal, write_output
    from tiedae_cli.runs import checkpoint
    from tiedae_cli.runs.folder import find_checkpoint
    from tiedae_cli.tasks.inspection import summarise_layers, summarise_training

    terminal = Terminal(quiet, as_json)
    check_split(split)
    if features is not None and features == codes:
        raise InputError(f"--features {features} --codes {codes}: two pictures need two files")
    path = find_checkpoint(model, Path(RUNS))
    trained = checkpoint.load(path)
    layers = summarise_layers(trained.model(torch.device("cpu")))
    summary = summarise_training(path, trained)
    if features is not None:
        write_output(features, _draw_features(trained, path, terminal))
    if codes is not None:
        write_output(codes, _draw_codes(trained, path, split, terminal))
    if "-" not in (features, codes):
        terminal.table(layer_table(layers, f"{path}, run {trained.run}"))
        terminal.table(facts_table(trained, summary))
        values = inspection_values(trained, layers, summary)
        terminal.json_line(checkpoint=str(path), **values, features=features, codes=codes)


def _draw_features(trained: "Checkpoint", path: Path, terminal: "Terminal") -> bytes:
    import torch

    from tiedae_cli.errors import InputError
    from tiedae_cli.output import figures

    if trained.form.kind != "images":
        raise InputError(f"--features: draws weights as images, but {path} takes {trained.form.describe()}")
    weight = trained.model(torch.device("cpu")).layers[0].weight.detach()  # (H, D)
    drawn = min(len(weight), figures.MOST_FEATURES)
    colours = "blue below zero, red above" if trained.form.shape[0] < 3 else "middle gray at zero"
    terminal.note(f"--features: the strongest {drawn} of {len(weight):,}, each scaled by its largest weight; {colours}")
    return figures.feature_grid(weight, trained.form)


def _draw_codes(trained: "Checkpoint", path: Path, split: str, terminal: "Terminal") -> bytes:
    import torch

    from tiedae_cli.output import figures
    from tiedae_cli.tasks.inspection import map_codes
    from tiedae_cli.tasks.loading import data_of_model

    splits = data_of_model(trained, path, terminal)
    images = splits.filled(split)
    code_map = map_codes(trained.model(torch.device("cpu")), images)
    title = f"{len(code_map.points):,} codes of {splits.source}, {split} split, run {trained.run}"
    return figures.code_map(code_map.points, code_map.labels, code_map.axes, title)
