"""``tiedae compare``: several runs on the same items, as a table and as a picture."""

from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import Debug, Device, Json, Quiet, Split


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN", show_default=False, help="Checkpoints or run folders (their best.safetensors)."),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE|-", show_default=False, help="PNG: the same images, a row a run. - is stdout."
        ),
    ] = None,
    split: Split = "test",
    count: Annotated[
        int, typer.Option("--n", "-n", metavar="N", min=1, max=100, help="How many images of the split to draw.")
    ] = 8,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure several runs on the same items, beside PCA. With --output it draws the same images, a row a run."""
    from tiedae_cli.cli.comparison_table import NEEDLESS, comparison_table, comparison_values, settings_table
    from tiedae_cli.data.item_set import choose
    from tiedae_cli.output.output_targets import check_targets, refuse_bytes_on_terminal
    from tiedae_cli.output.terminal import Terminal, write_output
    from tiedae_cli.runs.run_comparison import compare_runs
    from tiedae_cli.runs.trained_run import open_run
    from tiedae_cli.tasks.compare import comparison_picture, differing_settings

    refuse_bytes_on_terminal(output)
    with Terminal(quiet, as_json) as terminal:
        opened = [open_run(run, device) for run in runs]
        check_targets(output)
        if output is not None:
            opened[0].refuse_vectors(f"--output: draws images, but these runs are made for {opened[0].form.describe()}")
        compared, splits = compare_runs(opened, runs, split)
        if output is not None:
            source = f"{splits.source}, {split} split"
            write_output(output, comparison_picture(opened, compared, choose(splits.filled(split), count, None), source))
        if output != "-":
            terminal.table(comparison_table(compared, splits.source), NEEDLESS)
            settings = differing_settings(opened)
            if settings:
                terminal.table(settings_table(settings, [run.name for run in compared]))
            if output is not None:
                terminal.result(output)
            values = [comparison_values(run) for run in compared]
            told = [{key: found[index] for key, found in settings.items()} for index in range(len(values))]
            runs_told = [{**one, "settings": differing} for one, differing in zip(values, told, strict=True)]
            terminal.json_line(split=split, images=len(splits.get(split)), runs=runs_told, output=output)
