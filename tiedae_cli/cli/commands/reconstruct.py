"""``tiedae reconstruct``: images beside what the model makes of them, as a PNG."""

from pathlib import Path
from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import RUNS, Debug, Device, Json, Model, Quiet, Split


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
    from tiedae_cli.data import check_split, choose
    from tiedae_cli.data.image_files import expand_folders, load_image_files
    from tiedae_cli.errors import InputError
    from tiedae_cli.model.evaluation import reconstruct_items
    from tiedae_cli.output import figures
    from tiedae_cli.output.terminal import Terminal, write_output
    from tiedae_cli.runs import checkpoint
    from tiedae_cli.runs.folder import find_checkpoint, separate_model
    from tiedae_cli.system.runtime import resolve_device
    from tiedae_cli.system.storage import unused_name
    from tiedae_cli.tasks.loading import data_of_model

    terminal = Terminal(quiet, as_json)
    chosen = resolve_device(device)
    check_split(split)
    model, names = separate_model(model, files or [], Path(RUNS))
    path = find_checkpoint(model, Path(RUNS))
    trained = checkpoint.load(path)
    if trained.form.kind == "vectors":
        raise InputError(f"{path}: made for {trained.form.describe()}, which have no picture; its errors: tiedae eval {path}")
    if names:
        images = load_image_files(expand_folders(names), trained.form)
    else:
        images = choose(data_of_model(trained, path, terminal).filled(split), count, seed)
    figures.check_pairs(len(images), trained.form)
    originals, reconstructions, errors = reconstruct_items(trained.model(chosen), images, chosen)
    png = figures.reconstruction_pairs(originals, reconstructions, errors, trained.form)
    tops, bottoms = (figures.as_pictures(rows, trained.form) for rows in (originals, reconstructions))
    if preview:
        terminal.preview(tops, bottoms)
    target = output or str(unused_name(path.parent / f"reconstructions-{len(images)}.png", png))
    write_output(target, png)
    if target != "-":
        terminal.result(target)
        terminal.json_line(output=target, images=len(images), squared_errors=errors)
