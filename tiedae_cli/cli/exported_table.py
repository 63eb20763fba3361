"""The output of ``tiedae inspect`` for an exported file: its facts as a table, and the same values for JSON."""

from typing import Any

from rich.table import Table
from rich.text import Text

from tiedae_cli.exported.exported_file import ExportedModel
from tiedae_cli.runs.export_document import TensorFacts, ThresholdFacts

LISTED = 20  # columns that are named


def exported_table(model: ExportedModel) -> Table:
    """Return a table about an exported file, one row per fact."""
    document = model.document
    rows = [
        (
            "exported from",
            f"run {document.run}, tiedae {document.tiedae}, checkpoint SHA-256 {document.checkpoint_sha256[:16]}",
        ),
        ("data", model.form.describe()),
        *(("takes", _tensor(one)) for one in document.inputs),
        *(("gives", _tensor(one)) for one in document.outputs),
        ("missing values", document.missing),
    ]
    if document.columns is not None:
        names = list(document.columns.values)
        more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
        rows.append(("columns", ", ".join(names[:LISTED]) + more))
    if document.window > 1:
        rows.append(("windows", f"{document.window} rows, a new one every {document.stride}; {document.window_order}"))
    rows.append(("ranks by", document.rank))
    if document.training_items_inside:
        rows.append(("inside", f"{document.training_items_inside:,} training items, which new ones are compared with"))
    rows.append(("threshold", _threshold(document.threshold)))
    if document.row_threshold is not None:
        rows.append(("threshold of rows", _threshold(document.row_threshold)))
    table = Table(show_header=False, title=str(model.path), title_justify="left")
    for name, sentence in rows:
        table.add_row(name, Text(sentence))
    return table


def _tensor(one: TensorFacts) -> str:
    shape = " x ".join(map(str, one.shape)) or "a number"
    return f"{one.name}: {one.type}, {shape}: {one.meaning}"


def _threshold(facts: ThresholdFacts) -> str:
    if facts.expected_false_alarm_rate is None:
        return f"{facts.value:.6g}, given by hand"
    interval = facts.false_alarm_rate_interval
    promise = "" if interval is None else f" (95% interval {interval[0]:.2g} to {interval[1]:.2g})"
    return (
        f"{facts.value:.6g}; expected false alarms {facts.expected_false_alarm_rate:.3g}{promise}, "
        f"by {facts.validation_items:,} validation items"
    )


def exported_values(model: ExportedModel) -> dict[str, Any]:
    """Return the document of an exported file by its JSON names."""
    return {"exported": str(model.path), **model.document.model_dump(mode="json"), "bytes": model.path.stat().st_size}
