"""``tiedae train``: from a config to a run folder, from the start or from where an earlier process stopped."""

from pathlib import Path
from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import Debug, Device, Json, Quiet


def train(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", show_default=False, help="With --resume: the run folder or checkpoint to continue."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE|NAME",
            show_default="digits",
            help="YAML file (- is stdin), or name of a sample config.",
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", show_default=False, help="Override a value, for example training.epochs=10."
        ),
    ] = None,
    device: Device = "auto",
    run_dir: Annotated[
        Path | None,
        typer.Option("--run-dir", metavar="DIR", show_default=False, help="Exactly this run folder, which must be new."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue a run to the same bits; the newest one if RUN is left out. With --config: else start."
        ),
    ] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the resolved config and stop.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train an autoencoder; prints the path of its checkpoint."""
    from tiedae_cli.config import Config
    from tiedae_cli.config.yaml_reader import dump_config, find_config, load_config, run_name
    from tiedae_cli.errors import InputError

    if run is not None and not resume:
        raise InputError(f"unexpected argument {run}: a config is given with --config, a run to continue with --resume")
    path = None if resume and config is None else find_config(config or "digits")
    wanted = None if path is None else load_config(path, assignments or [])
    if print_config:
        typer.echo(dump_config(wanted or Config()), nl=False)
        return
    from tiedae_cli.output.terminal import Terminal
    from tiedae_cli.runs.folder import RUNS
    from tiedae_cli.system.runtime import joined_ranks, resolve_device
    from tiedae_cli.tasks import opening

    with joined_ranks() as ranks, Terminal(quiet or not ranks.leads, as_json and ranks.leads) as terminal:
        where = (resolve_device(device), ranks, terminal)
        name = None if path is None else run_name(path)
        parent = Path(wanted.output.runs) if wanted else RUNS
        found = opening.find_resumable(run, name, run_dir, parent) if resume and ranks.leads else None
        found = ranks.from_leader(found)
        if found is not None:
            opened = opening.resume(found, wanted, assignments or [], *where)
        else:
            assert wanted is not None and name is not None  # find_resumable raises where there is no config to start from
            opened = opening.start(wanted, name, run_dir, *where)
        with opened as session:
            session.train()
