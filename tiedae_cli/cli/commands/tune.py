"""``tiedae tune``: find out how many numbers the data needs, and which settings."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiedae_cli.cli import completion
from tiedae_cli.cli.commands.options import ConfigFile, Debug, Device, Json, Quiet

if TYPE_CHECKING:
    from tiedae_cli.config.grid import Grid
    from tiedae_cli.config.keys import Key
    from tiedae_cli.tasks.tune import Tuned


def percentage(text: str) -> float:
    """Return a percentage of the variance, written ``95`` or ``95%``.

    Raises:
        BadParameter: it is not one; the message says what to type.
    """
    try:
        value = float(str(text).strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if 0 < value < 1:
        raise typer.BadParameter(f"{text} is a fraction; expected a percentage: --explain {100 * value:g}")
    if not 1 <= value < 100:
        raise typer.BadParameter(f"{text} is not a percentage from 1 to 99.99; for example --explain 95")
    return value


def tune(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONFIG|DATA|KEY=V1,V2",
            show_default=False,
            autocompletion=completion.training_words,
            help="A sample config or a YAML file, data to train on, and keys of the config, as of train. Several values of a key "
            "are separated by commas; if a key holds a list, repeat it: hidden_sizes=64,8 hidden_sizes=128,16.",
        ),
    ] = None,
    config: ConfigFile = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=V1,V2", show_default=False, help="The same as KEY=V1,V2 or --KEY V1,V2."),
    ] = None,
    explain: Annotated[
        float | None,
        typer.Option(
            "--explain",
            metavar="PERCENT",
            parser=percentage,
            show_default=False,
            help="Choose the smallest code that explains this percentage of the variance. Default: the lowest validation error.",
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            "--split",
            metavar="SPLIT",
            autocompletion=completion.splits,
            help="Split that the curve shows: validation or test. The choice is always made on validation.",
        ),
    ] = "validation",
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            "-m",
            metavar="N",
            min=0.01,
            show_default=False,
            help="Search for better settings for this long (Optuna).",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials", metavar="N", min=1, show_default=False, help="Search until this many settings have been tried (Optuna)."
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URL",
            show_default="SQLite in the folder",
            help="Database for a search that several processes and machines share.",
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", metavar="N", min=1, max=256, help="Trainings at once, in processes of their own.")
    ] = 1,
    run_dir: Annotated[
        Path | None,
        typer.Option("--run-dir", metavar="DIR", show_default="runs/NAME-tune", help="Folder of all runs of this tuning."),
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a config with several settings, compare with PCA, and say how many numbers explain the data.

    tiedae tune x.npy code_size=2,4,8,16 seed=1,2,3; tiedae tune digits code_size=2,4,8 --explain 95; tiedae tune x.npy --minutes 10
    """
    began = time.time()
    from tiedae_cli.cli.train_request import parse_train_request
    from tiedae_cli.cli.tune_table import OPTIONAL_TUNE_COLUMNS, tune_table, tune_words
    from tiedae_cli.config.grid import parse_grid
    from tiedae_cli.config.yaml_reader import load_config
    from tiedae_cli.errors import InputError
    from tiedae_cli.output.terminal import Terminal
    from tiedae_cli.system.devices import resolve_device
    from tiedae_cli.tasks import tune as task

    if split not in ("validation", "test"):
        raise InputError(f"--split {split}: expected validation or test")
    request = parse_train_request(words or [], config, assignments or [], resume=False, command="tune")
    assert request.config is not None and request.name is not None  # only a run that is resumed has none
    grid = parse_grid(request.assignments)
    limits = None
    if minutes is not None or trials is not None:
        _refuse_values(grid)
        limits = task.SearchLimits(tuple(_keys(grid)), minutes, trials, storage, began)
    elif storage is not None:
        raise InputError("--storage: for a search; add --minutes N or --trials N")
    elif not grid.varied:
        line = f"tiedae tune {_again(request)}"
        raise InputError(
            f"nothing varies; give several values of a key, or search: {line} code_size=2,4,8 or {line} --minutes 5"
        )
    base = load_config(request.config, grid.fixed)
    chosen = resolve_device(device)
    with Terminal(quiet, as_json) as terminal:
        for note in request.notes:
            terminal.note(note)
        tuning = task.TuneRequest(base, request.name, grid.varied, chosen, run_dir, jobs, split, explain, search=limits)
        tuned = task.tune(tuning, terminal)
        terminal.table(tune_table(tuned), OPTIONAL_TUNE_COLUMNS)
        for line in tune_words(tuned, explain):
            terminal.note(line)
        terminal.json_line(event="done", **_values(tuned, explain))


def _keys(grid: "Grid") -> "Iterator[Key]":
    """Yield the keys that the user has set."""
    from tiedae_cli.config import keys

    for text in grid.fixed:
        yield keys.resolve(*text.split("=", 1))


def _refuse_values(grid: "Grid") -> None:
    """Raise ``InputError`` if a key has several values, because a search chooses values by itself."""
    from tiedae_cli.errors import InputError

    for key, values in grid.varied.items():
        name = ".".join(key)
        raise InputError(
            f"{name}={','.join(values)}: a search chooses values by itself; give one ({name}={values[0]}), or drop --minutes and --trials"
        )


def _again(request: Any) -> str:
    from tiedae_cli.system.portability import quoted

    return " ".join(quoted(text.removeprefix("data.dataset=")) for text in request.assignments) or str(request.config.stem)


def _values(tuned: "Tuned", explain: float | None) -> dict[str, Any]:
    """Return the result as the JSON interface names it."""
    from tiedae_cli.cli.tune_table import tune_values

    return tune_values(tuned, explain)
