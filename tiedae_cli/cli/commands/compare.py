"""``tiedae compare``: measure several models on the same items."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiedae_cli.cli.commands.options import Debug, Device, Json, Quiet, Split, output_target

if TYPE_CHECKING:
    from tiedae_cli.runs.run_comparison import ComparedRun
    from tiedae_cli.runs.trained_run import OpenRun
    from tiedae_cli.tasks.compare import Flags

SHOWN = 10  # items that a note names


def compare(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            show_default=False,
            help="Checkpoints, run folders (their best.safetensors) or names of runs; then files and folders to measure them "
            "on. Default: a split of the first run's data.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|-",
            callback=output_target,
            show_default=False,
            help="Write a PNG of the same images, one row per run; - is stdout.",
        ),
    ] = None,
    split: Split = "test",
    count: Annotated[int, typer.Option("--n", "-n", metavar="N", min=1, max=100, help="Number of images to draw.")] = 8,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure several models on the same items, beside PCA, and name the items that only one of them flags as outliers.

    With --output, also draw their reconstructions.
    """
    from tiedae_cli.cli.comparison_table import OPTIONAL_COMPARISON_COLUMNS, comparison_table, settings_table
    from tiedae_cli.data.item_set import choose
    from tiedae_cli.output.output_targets import check_targets, refuse_binary_on_terminal
    from tiedae_cli.output.terminal import Terminal, write_output
    from tiedae_cli.runs.run_comparison import compare_on_files, compare_runs, has_same_units
    from tiedae_cli.runs.trained_run import open_run
    from tiedae_cli.tasks.compare import comparison_picture, differing_settings, flags_of

    refuse_binary_on_terminal(output)
    with Terminal(quiet, as_json) as terminal:
        names, inputs = _models_and_data(words)
        opened = [open_run(name, device) for name in names]
        check_targets(output)
        if output is not None:
            _check_picture(opened[0], inputs)
        for run in opened:
            run.warn_if_unfinished()
        if inputs:
            compared, splits, source = compare_on_files(opened, names, inputs), None, ", ".join(inputs)
        else:
            compared, splits = compare_runs(opened, names, split, same_scaling=False)
            source = splits.source
        if output is not None and splits is not None:
            title = f"{source}, {split} split"
            write_output(output, comparison_picture(opened, compared, choose(splits.filled(split), count, None), title))
        if output == "-":
            return
        settings, flags = differing_settings(opened), flags_of(opened, inputs, splits, split)
        alike = all(has_same_units(opened[0].form, run.form) for run in opened)
        if settings:
            terminal.table(settings_table(settings, [run.name for run in compared]))
        terminal.table(comparison_table(compared, source, in_raw_units=not alike), OPTIONAL_COMPARISON_COLUMNS)
        for line in _notes(opened, compared, flags):
            terminal.note(line)
        if output is not None:
            terminal.result(output)
        items, values = compared[0].evaluation.model.items, _run_values(compared, flags, settings)
        measured = {"split": None, "data": inputs} if inputs else {"split": split}
        terminal.json_line(**measured, items=items, runs=values, output=output)


def _models_and_data(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the MODELs and the DATA among the words; raise ``InputError`` if there is no MODEL."""
    from tiedae_cli.errors import InputError
    from tiedae_cli.runs.run_list import RUNS
    from tiedae_cli.runs.trained_run import separate_models

    names, inputs = separate_models(words, RUNS)
    if not names:
        raise InputError(f"{', '.join(words)}: data, but no model; type: tiedae compare MODEL... {' '.join(words)}")
    return names, inputs


def _check_picture(first: "OpenRun", inputs: Sequence[str]) -> None:
    """Raise ``InputError`` unless the models take images and a split of them is compared."""
    from tiedae_cli.errors import InputError

    first.refuse_vectors(f"--output: needs image models; these runs take {first.form.describe()}")
    if inputs:
        raise InputError("--output draws images of a split; it cannot be combined with DATA")


def _notes(opened: "Sequence[OpenRun]", compared: "Sequence[ComparedRun]", flags: "Sequence[Flags | None]") -> Iterator[str]:
    """Yield what the table does not show: verdicts that need words, and the items that only one model flags."""
    from tiedae_cli.model.verdict import sentence
    from tiedae_cli.runs.training_summary import error_history

    for run, one, flagged in zip(opened, compared, flags, strict=True):
        errors = one.evaluation.errors(one.sizes[-1], run.form.value_name, error_history(run.history))
        if errors.is_useless or errors.pca_is_exact or not errors.is_compressed:
            yield f"{one.name}: {sentence(errors)}"
        if flagged is not None and flagged.alone and sum(other is not None for other in flags) > 1:
            shown = ", ".join(map(str, flagged.alone[:SHOWN]))
            more = f" and {len(flagged.alone) - SHOWN:,} more" if len(flagged.alone) > SHOWN else ""
            yield f"only {one.name} flags: {shown}{more}"


def _run_values(
    compared: "Sequence[ComparedRun]", flags: "Sequence[Flags | None]", settings: Mapping[str, Sequence[object]]
) -> list[dict[str, Any]]:
    """Return each run of a comparison as the JSON interface names it."""
    from tiedae_cli.cli.comparison_table import comparison_values

    values = []
    for index, (one, flagged) in enumerate(zip(compared, flags, strict=True)):
        outliers = None if flagged is None else flagged.outliers
        alone = None if flagged is None else flagged.alone
        own = {key: value[index] for key, value in settings.items()}
        values.append({**comparison_values(one), "outliers": outliers, "flagged_alone": alone, "settings": own})
    return values
