"""``tiedae eval``: measure a model on a split."""

from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import Debug, Device, Json, Model, Quiet, Split


def evaluate(
    model: Model = None,
    split: Split = "test",
    components: Annotated[
        int | None,
        typer.Option(
            "--components",
            metavar="K",
            min=1,
            show_default="the code size",
            help="Number of principal components to compare with.",
        ),
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a model on a split, and compare it with PCA of the same code size and with the mean item."""
    from tiedae_cli.cli.evaluation_table import OPTIONAL_EVALUATION_COLUMNS, evaluation_table, evaluation_values
    from tiedae_cli.model.verdict import sentence
    from tiedae_cli.output.terminal import Terminal
    from tiedae_cli.runs.trained_run import open_run
    from tiedae_cli.runs.training_summary import error_history
    from tiedae_cli.tasks.eval import evaluate_run

    with Terminal(quiet, as_json) as terminal:
        run = open_run(model, device)
        result, denoising = evaluate_run(run, split, components)
        terminal.table(evaluation_table(result, f"{run.path} on {run.splits.source}", denoising), OPTIONAL_EVALUATION_COLUMNS)
        history = error_history(run.history)
        terminal.note(sentence(result.errors(run.network.sizes[-1], run.form.value_name, history)))
        terminal.json_line(checkpoint=str(run.path), **evaluation_values(result, denoising))
