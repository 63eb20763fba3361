"""``tiedae reconstruct``: draw images beside their reconstructions."""

import os
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from tiedae_cli.cli.commands.options import Debug, Device, Json, Model, Quiet, Split, output_target
from tiedae_cli.cli.exported_models import exported_model


def reconstruct(
    model: Model = None,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGES", show_default=False, help="Image files or folders of images. Default: images of the split."
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--n", "-n", metavar="N", min=1, max=10_000, help="Number of images of the split to draw.")
    ] = 2,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", metavar="SEED", min=0, show_default="the first ones", help="Choose images at random, with this seed."
        ),
    ] = None,
    split: Split = "test",
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|-",
            callback=output_target,
            show_default="reconstructions-N.png in the run folder",
            help="Output file; - is stdout.",
        ),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview/--no-preview", help="Also draw the images in the terminal, if it has color.")
    ] = True,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw images beside their reconstructions, and print the path of the PNG."""
    from tiedae_cli.output.output_targets import check_targets, refuse_binary_on_terminal
    from tiedae_cli.output.terminal import Terminal, write_output
    from tiedae_cli.system.storage import unused_name

    _refuse_count(model, files or [])
    refuse_binary_on_terminal(output)
    with Terminal(quiet, as_json) as terminal:
        drawn: Any
        if (exported := exported_model(model, device)) is not None:
            from tiedae_cli.exported.exported_answers import reconstruct_exported

            check_targets(output)
            drawn, folder = reconstruct_exported(exported, files or []), exported.path.parent
        else:
            from tiedae_cli.runs.trained_run import open_run_with_inputs
            from tiedae_cli.tasks import reconstruct as reconstruction

            run, names = open_run_with_inputs(model, files or [], device)
            run.warn_if_unfinished()
            check_targets(output)
            drawn, folder = reconstruction.reconstruct(run, names, split, count, seed), run.path.parent
        if preview:
            terminal.preview(drawn.answers, drawn.title)
        png = drawn.png()
        target = output or str(unused_name(folder / f"reconstructions-{drawn.items}.png", png))
        write_output(target, png)
        if target != "-":
            terminal.result(target)
            terminal.json_line(output=target, items=drawn.items, squared_errors=drawn.squared_errors)


def _refuse_count(model: str | None, files: Sequence[str]) -> None:
    """Refuse ``tiedae reconstruct digits 5``: the number of images is an option."""
    from tiedae_cli.errors import InputError
    from tiedae_cli.runs.run_folder import named_model
    from tiedae_cli.runs.run_list import RUNS
    from tiedae_cli.system.portability import quoted

    words = [word for word in (model, *files) if word is not None]
    last = words[-1] if words else ""
    if not last.isdecimal() or os.path.exists(last) or named_model(last, RUNS) is not None:
        return
    line = " ".join(["tiedae reconstruct", *map(quoted, words[:-1]), "--n", last])
    raise InputError(f"{last}: not a run or an image; for {last} images type: {line}")
