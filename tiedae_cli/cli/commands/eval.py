"""``tiedae eval``: a model's errors on a split beside PCA and the mean image."""

from pathlib import Path
from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import RUNS, Debug, Device, Json, Model, Quiet, Split


def evaluate(
    model: Model = None,
    split: Split = "test",
    components: Annotated[
        int | None,
        typer.Option(
            "--components", metavar="K", min=1, show_default="the code size", help="Principal components to compare with."
        ),
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a model on a split, beside PCA. PCA has as many numbers as the code; beside both, the mean image."""
    from tiedae_cli.cli.evaluation_table import evaluation_table, evaluation_values
    from tiedae_cli.data import check_split
    from tiedae_cli.model import evaluation
    from tiedae_cli.output.terminal import Terminal
    from tiedae_cli.runs import checkpoint
    from tiedae_cli.runs.folder import find_checkpoint, principal_components
    from tiedae_cli.system.runtime import resolve_device
    from tiedae_cli.tasks.denoising import measure_denoising
    from tiedae_cli.tasks.loading import data_of_model

    terminal = Terminal(quiet, as_json)
    chosen = resolve_device(device)
    check_split(split)
    path = find_checkpoint(model, Path(RUNS))
    trained = checkpoint.load(path)
    splits = data_of_model(trained, path, terminal)
    images = splits.filled(split)
    fitted = principal_components(path.parent, splits.train, components or trained.config.model.hidden_sizes[-1])
    result = evaluation.evaluate(trained.model(chosen), fitted, images, split, chosen)
    denoising = measure_denoising(trained.model(chosen), fitted, images, trained.config.training, chosen)
    terminal.table(evaluation_table(result, f"{path} on {splits.source}", denoising))
    terminal.json_line(checkpoint=str(path), **evaluation_values(result, denoising))
