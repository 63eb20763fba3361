"""The table of ``tiedae runs``."""

from collections.abc import Sequence
from datetime import datetime

from rich import box
from rich.table import Table
from rich.text import Text

from tiedae_cli.runs.run_list import RunSummary

OPTIONAL_RUN_COLUMNS = ("shape", "PCA's", "saved", "data")  # columns that a narrow window hides, in this order
STYLES = {"running": "bold", "diverged": "red", "unreadable": "red"}


def runs_table(runs: Sequence[RunSummary]) -> Table:
    """Return a table with one row per run."""
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for heading in ("run", "data", "shape", "epochs", "MSE", "PCA's", "saved", "state"):
        table.add_column(heading, justify="right" if heading in ("epochs", "MSE", "PCA's") else "left")
    for run in runs:
        table.add_row(
            Text(run.name),
            Text(run.data),
            run.shape,
            f"{run.epochs}/{run.asked}",
            _number(run.mse_per_value),
            _number(run.pca_mse_per_value),
            datetime.fromisoformat(run.when).astimezone().strftime("%Y-%m-%dT%H:%M"),
            Text(run.state, style=STYLES.get(run.state, "")),
        )
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"
