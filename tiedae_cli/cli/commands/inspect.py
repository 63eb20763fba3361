"""``tiedae inspect``: what a checkpoint says of itself, and pictures of its features and codes."""

from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import Debug, Json, Model, Quiet, Split


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
    from tiedae_cli.cli.inspection_table import facts_table, inspection_values, layer_table
    from tiedae_cli.model.layer_summary import summarise_layers
    from tiedae_cli.output.output_targets import check_targets, refuse_bytes_on_terminal
    from tiedae_cli.output.terminal import Terminal, write_output
    from tiedae_cli.runs.trained_run import open_run
    from tiedae_cli.runs.training_summary import summarise_training
    from tiedae_cli.tasks.inspect import draw_codes, draw_features

    refuse_bytes_on_terminal(features, codes)
    with Terminal(quiet, as_json) as terminal:
        run = open_run(model, "cpu")
        check_targets(features, codes)
        layers, summary = summarise_layers(run.network), summarise_training(run.trained, run.history)
        if features is not None:
            write_output(features, draw_features(run))
        if codes is not None:
            write_output(codes, draw_codes(run, split))
        if "-" not in (features, codes):
            terminal.table(layer_table(layers, f"{run.path}, run {run.trained.run}"))
            terminal.table(facts_table(run.trained, summary))
            values = inspection_values(run.trained, layers, summary)
            terminal.json_line(checkpoint=str(run.path), **values, features=features, codes=codes)
