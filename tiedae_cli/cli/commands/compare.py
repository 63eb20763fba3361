"""``tiedae compare``: several runs on the same items, as a table and as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiedae_cli.cli.commands.options import RUNS, Debug, Device, Json, Quiet, Split

if TYPE_CHECKING:
    import torch

    from tiedae_cli.data import ImageSet
    from tiedae_cli.tasks.comparison import Candidate, ComparedRun


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
    from tiedae_cli.cli.tables import comparison_table, comparison_values
    from tiedae_cli.data import check_split, choose
    from tiedae_cli.errors import InputError
    from tiedae_cli.output.terminal import Terminal, write_output
    from tiedae_cli.runs import checkpoint
    from tiedae_cli.runs.folder import find_checkpoint
    from tiedae_cli.system.runtime import resolve_device
    from tiedae_cli.tasks import comparison
    from tiedae_cli.tasks.loading import data_of_model

    terminal = Terminal(quiet, as_json)
    chosen = resolve_device(device)
    check_split(split)
    paths = [find_checkpoint(run, Path(RUNS)) for run in runs]
    candidates = [comparison.Candidate(run, path, checkpoint.load(path)) for run, path in zip(runs, paths, strict=True)]
    form = candidates[0].trained.form
    if output is not None and form.kind != "images":
        raise InputError(f"--output: draws images, but these runs are made for {form.describe()}")
    splits = comparison.common_splits(candidates, split, lambda one: data_of_model(one.trained, one.path, terminal))
    images = splits.filled(split)
    compared = comparison.compare(candidates, splits, images, split, chosen)
    if output is not None:
        shown = choose(images, count, None)
        write_output(output, _picture(candidates, compared, shown, f"{splits.source}, {split} split", chosen))
    if output != "-":
        terminal.table(comparison_table(compared, splits.source))
        terminal.json_line(split=split, images=len(images), runs=[comparison_values(run) for run in compared], output=output)


def _picture(
    candidates: "list[Candidate]", compared: "list[ComparedRun]", images: "ImageSet", source: str, device: "torch.device"
) -> bytes:
    from tiedae_cli.model.evaluation import reconstruct_items
    from tiedae_cli.output import figures

    rows = []
    for candidate, run in zip(candidates, compared, strict=True):
        originals, reconstructions, _ = reconstruct_items(candidate.trained.model(device), images, device)
        line = f"squared error per image {run.evaluation.model.squared_error_per_image:.4g}"
        rows.append((run.name, line, figures.as_pictures(reconstructions, images.form)))
    return figures.labelled_rows([("original", source, figures.as_pictures(originals, images.form)), *rows])
