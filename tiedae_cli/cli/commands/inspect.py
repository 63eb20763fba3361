"""``tiedae inspect``: print what a checkpoint contains, and draw its features and codes."""

from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import Debug, Json, Model, Quiet, Split, output_target
from tiedae_cli.cli.exported_models import exported_model, refuse_options


def inspect(
    model: Model = None,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            metavar="FILE|-",
            callback=output_target,
            show_default=False,
            help="Draw the weights of the first layer, strongest first, as a PNG; - is stdout.",
        ),
    ] = None,
    codes: Annotated[
        str | None,
        typer.Option(
            "--codes",
            metavar="FILE|-",
            callback=output_target,
            show_default=False,
            help="Draw the codes of a split in two dimensions, as a PNG; - is stdout.",
        ),
    ] = None,
    split: Split = "test",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print the layers of a model and how it was trained. Optionally draw its features and codes."""
    from tiedae_cli.output.output_targets import check_targets, refuse_binary_on_terminal
    from tiedae_cli.output.terminal import Terminal, write_output

    if (exported := exported_model(model)) is not None:
        from tiedae_cli.cli.exported_table import exported_table, exported_values

        refuse_options(exported, {"--features": features, "--codes": codes})
        with Terminal(quiet, as_json) as terminal:
            terminal.table(exported_table(exported))
            terminal.json_line(**exported_values(exported))
        return
    from tiedae_cli.cli.inspection_table import facts_table, inspection_values, layer_table
    from tiedae_cli.model.layer_summary import summarize_layers
    from tiedae_cli.runs.trained_run import open_run
    from tiedae_cli.runs.training_summary import summarize_training
    from tiedae_cli.tasks.inspect import draw_codes, draw_features

    refuse_binary_on_terminal(features, codes)
    with Terminal(quiet, as_json) as terminal:
        run = open_run(model, "cpu")
        check_targets(features, codes)
        layers, summary = summarize_layers(run.network), summarize_training(run.trained, run.history)
        if features is not None:
            write_output(features, draw_features(run))
        if codes is not None:
            write_output(codes, draw_codes(run, split))
        if "-" not in (features, codes):
            terminal.table(layer_table(layers, f"{run.path}, run {run.trained.run}"))
            terminal.table(facts_table(run.trained, summary))
            values = inspection_values(run.trained, layers, summary)
            terminal.json_line(checkpoint=str(run.path), **values, features=features, codes=codes)
