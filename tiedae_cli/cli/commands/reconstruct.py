"""``tiedae reconstruct``: images beside what the model makes of them, as a PNG."""

from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import Debug, Device, Json, Model, Quiet, Split


def reconstruct(
    model: Model = None,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGES", show_default=False, help="Image files or folders of them instead of the split."),
    ] = None,
    count: Annotated[int, typer.Option("--n", "-n", metavar="N", min=1, max=10_000, help="How many images of the split.")] = 2,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", metavar="SEED", min=0, show_default="the first ones", help="Choose the images at random with this seed."
        ),
    ] = None,
    split: Split = "test",
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE|-", show_default="reconstructions-N.png in the run folder", help="- is stdout."
        ),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview/--no-preview", help="Draw them in the terminal too, where it shows colour.")
    ] = True,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw images beside their reconstructions. Prints the path of the PNG."""
    from tiedae_cli.output.output_targets import check_targets, refuse_bytes_on_terminal
    from tiedae_cli.output.terminal import Terminal, write_output
    from tiedae_cli.runs.trained_run import open_run_with_inputs
    from tiedae_cli.system.storage import unused_name
    from tiedae_cli.tasks import reconstruct as reconstruction

    refuse_bytes_on_terminal(output)
    with Terminal(quiet, as_json) as terminal:
        run, names = open_run_with_inputs(model, files or [], device)
        check_targets(output)
        drawn = reconstruction.reconstruct(run, names, split, count, seed)
        if preview:
            terminal.preview(drawn.answers, drawn.title)
        png = drawn.png()
        target = output or str(unused_name(run.path.parent / f"reconstructions-{drawn.images}.png", png))
        write_output(target, png)
        if target != "-":
            terminal.result(target)
            terminal.json_line(output=target, images=drawn.images, squared_errors=drawn.squared_errors)
