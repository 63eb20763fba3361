"""The table of ``tiedae runs``."""

from collections.abc import Sequence
from datetime import datetime

from rich import box
from rich.table import Table
from rich.text import Text

from tiedae_cli.runs.listing import RunSummary

WIDE = 100  # columns of a terminal from which all columns of the table have room
STYLES = {"running": "bold", "diverged": "red", "unreadable": "red"}


def runs_table(runs: Sequence[RunSummary], width: int) -> Table:
    """Return a row a run; in a narrow terminal without the shape and PCA's error."""
    wide = width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for heading in ("run", "data", *(("shape",) if wide else ())):
        table.add_column(heading, overflow="ellipsis", no_wrap=True)
    for heading in ("epochs", "MSE", *(("PCA's",) if wide else ())):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("saved", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for run in runs:
        when = datetime.fromisoformat(run.when).astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(
            Text(run.name),
            Text(run.data),
            *((run.shape,) if wide else ()),
            f"{run.epochs:,} of {run.asked:,}",
            _number(run.mse_per_pixel),
            *((_number(run.pca_mse_per_pixel),) if wide else ()),
            when,
            Text(run.state, style=STYLES.get(run.state, "")),
        )
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"
