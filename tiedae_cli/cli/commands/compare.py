"""``tiedae compare``: measure several runs on the same items."""

from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import Debug, Device, Json, Quiet, Split, output_target


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN", show_default=False, help="Checkpoints or run folders (their best.safetensors)."),
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
    """Measure several runs on the same items, and compare them with PCA. With --output, also draw their reconstructions."""
    from tiedae_cli.cli.comparison_table import NEEDLESS, comparison_table, comparison_values, settings_table
    from tiedae_cli.data.item_set import choose
    from tiedae_cli.model.verdict import sentence
    from tiedae_cli.output.output_targets import check_targets, refuse_bytes_on_terminal
    from tiedae_cli.output.terminal import Terminal, write_output
    from tiedae_cli.runs.run_comparison import compare_runs
    from tiedae_cli.runs.trained_run import open_run
    from tiedae_cli.runs.training_summary import error_history
    from tiedae_cli.tasks.compare import comparison_picture, differing_settings

    refuse_bytes_on_terminal(output)
    with Terminal(quiet, as_json) as terminal:
        opened = [open_run(run, device) for run in runs]
        check_targets(output)
        if output is not None:
            opened[0].refuse_vectors(f"--output: needs image models; these runs take {opened[0].form.describe()}")
        compared, splits = compare_runs(opened, runs, split)
        if output is not None:
            source = f"{splits.source}, {split} split"
            write_output(output, comparison_picture(opened, compared, choose(splits.filled(split), count, None), source))
        if output != "-":
            terminal.table(comparison_table(compared, splits.source), NEEDLESS)
            settings = differing_settings(opened)
            if settings:
                terminal.table(settings_table(settings, [run.name for run in compared]))
            for run, one in zip(opened, compared, strict=True):
                history = error_history(run.history)
                errors = one.evaluation.errors(one.sizes[-1], run.form.value_name, history)
                if errors.is_useless or errors.pca_is_exact or not errors.is_compressed:
                    terminal.note(f"{one.name}: {sentence(errors)}")
            if output is not None:
                terminal.result(output)
            values = [comparison_values(run) for run in compared]
            differing = [{key: value[index] for key, value in settings.items()} for index in range(len(values))]
            json_runs = [{**one, "settings": own} for one, own in zip(values, differing, strict=True)]
            terminal.json_line(split=split, images=len(splits.get(split)), runs=json_runs, output=output)
