"""``tiedae eval``: measure a model on files, or on a split of its data."""

from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import Debug, Device, Inputs, Json, Model, Quiet, Split


def evaluate(
    model: Model = None,
    inputs: Inputs = None,
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
    """Measure a model on files or a split, and compare it with PCA of the same code size and with the mean item."""
    from tiedae_cli.cli.evaluation_table import OPTIONAL_EVALUATION_COLUMNS, evaluation_table, evaluation_values
    from tiedae_cli.model.error_tail import describe_tail
    from tiedae_cli.model.verdict import sentence
    from tiedae_cli.output.terminal import Terminal
    from tiedae_cli.runs.trained_run import open_run_with_inputs
    from tiedae_cli.runs.training_summary import error_history
    from tiedae_cli.tasks.eval import drift_of_split, evaluate_files, evaluate_run

    with Terminal(quiet, as_json) as terminal:
        run, names = open_run_with_inputs(model, inputs or [], device)
        run.warn_if_unfinished()
        if names:
            (result, drift), denoising, source = evaluate_files(run, names, components), None, ", ".join(names)
        else:
            (result, denoising), source = evaluate_run(run, split, components), run.splits.source
            drift = drift_of_split(run, split)
        terminal.table(evaluation_table(result, f"{run.path} on {source}", denoising), OPTIONAL_EVALUATION_COLUMNS)
        history = error_history(run.history)
        errors = result.errors(run.network.sizes[-1], run.form.value_name, history)
        terminal.note(sentence(errors))
        if not errors.pca_is_exact and (tail := describe_tail(result.tail)):
            terminal.note(tail)
        if run.form.transform != "none":
            terminal.note(f"the errors are of transformed values (data.transform: {run.form.transform})")
        data: dict[str, object] = {"data": names} if names else {}
        if names or run.data_changed:
            data["drift"] = None if drift is None else drift.values()
        if drift is not None:
            terminal.warn(drift.describe())
        terminal.json_line(checkpoint=str(run.path), **data, **evaluation_values(result, denoising))
