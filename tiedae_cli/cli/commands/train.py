"""``tiedae train``: train a model, or resume a run."""

import os
from pathlib import Path
from typing import Annotated

import typer

from tiedae_cli.cli import completion
from tiedae_cli.cli.commands.options import ConfigFile, Debug, Device, Json, Quiet


def train(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONFIG|DATA|KEY=VALUE",
            show_default=False,
            autocompletion=completion.training_words,
            help="A sample config or a YAML file; a data set, folder, array or table to train on; keys of the config. "
            "With --resume: the run to resume.",
        ),
    ] = None,
    config: ConfigFile = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            show_default=False,
            help="Set a key of the config; the same as KEY=VALUE or --KEY VALUE.",
        ),
    ] = None,
    device: Device = "auto",
    run_dir: Annotated[
        Path | None,
        typer.Option("--run-dir", metavar="DIR", show_default=False, help="Run folder to create; it must not exist yet."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume a run (default: the newest); the result is bit-identical to an uninterrupted run. With --config, start a "
            "new run if there is none to resume.",
        ),
    ] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the resolved config and exit.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train an autoencoder, and print the path of its checkpoint.

    tiedae train mnist; tiedae train photos/ --epochs 10; tiedae train table.csv hidden_sizes=64,8; tiedae train my.yaml
    """
    from tiedae_cli.cli.train_request import parse_train_request
    from tiedae_cli.config import Config
    from tiedae_cli.config.yaml_reader import dump_config, load_config

    request = parse_train_request(words or [], config, assignments or [], resume)
    values = None if request.config is None else load_config(request.config, request.assignments)
    if print_config:
        typer.echo(dump_config(values or Config()), nl=False)
        return
    from tiedae_cli.output.terminal import Terminal
    from tiedae_cli.runs.run_folder import find_resumable
    from tiedae_cli.runs.run_list import RUNS
    from tiedae_cli.system.devices import joined_ranks, resolve_device
    from tiedae_cli.tasks import train as task

    with joined_ranks() as ranks, Terminal(quiet or not ranks.leads, as_json and ranks.leads) as terminal:
        for note in request.notes:
            terminal.note(note)
        where = (resolve_device(device), ranks, terminal)
        parent = Path(os.path.expanduser(values.output.runs)) if values else RUNS
        found = find_resumable(request.run, request.name, run_dir, parent) if resume and ranks.leads else None
        found = ranks.from_leader(found)
        if found is not None:
            opened = task.resume(found, values, request.assignments, *where)
        else:
            assert values is not None and request.name is not None  # find_resumable raises if there is no config to start from
            opened = task.start(values, request.name, run_dir, *where)
        with opened as training:
            training.train()
