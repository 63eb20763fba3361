"""The output of ``tiedae tune``: a table of its runs, and what they say in words."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from tiedae_cli.config.grid import plain
from tiedae_cli.model.rate_distortion import PERCENTAGES, Curve, RateDistortion, sizes_tried, statements
from tiedae_cli.model.verdict import ratio
from tiedae_cli.runs.trials import TrialResult
from tiedae_cli.system.portability import quoted
from tiedae_cli.tasks.tune import Found, Tuned

BEST = 10  # trials of a search that the table shows
OPTIONAL_TUNE_COLUMNS = (
    "code_activation",
    "l2",
    "seconds",
    "epochs",
    "schedule",
    "PCA's",
    "output",
    "noise",
    "depth",
    "batch_size",
    "activation",
    "state",
)  # columns that a narrow window hides, in this order


def tune_table(tuned: Tuned) -> Table:
    """Return a table with one row per run, of a search with the best ones; the chosen one stands out on a terminal."""
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    results = list(tuned.results)
    if tuned.found is not None:
        results = sorted(results, key=lambda one: (one.state != "finished", one.mse_per_value or 0.0))[:BEST]
        table.add_column("trial", justify="right")
    varied = list(results[0].trial.settings) if results else []
    for key in varied:
        table.add_column(key.rpartition(".")[2], justify="right")
    for heading in ("validation MSE", "PCA's", "epochs", "seconds", "state"):
        table.add_column(heading, justify="left" if heading == "state" else "right")
    for result in results:
        is_chosen = result is tuned.chosen
        numbers = [] if tuned.found is None else [str(result.trial.number)]
        cells = [*numbers, *(plain(result.trial.settings[key]) for key in varied)]
        error, pca = _number(result.mse_per_value), _number(tuned.pca(result.trial))
        state = "chosen" if is_chosen else result.state
        row = (*cells, error, pca, str(result.epochs), f"{result.seconds:.1f}", state)
        table.add_row(*(Text(cell, style="bold" if is_chosen else "") for cell in row))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"


def percentages(explain: float | None) -> tuple[float, ...]:
    """Return which percentages of the variance the words are about."""
    return tuple(sorted({*PERCENTAGES, *([] if explain is None else [explain])}))


def tune_words(tuned: Tuned, explain: float | None) -> Iterator[str]:
    """Yield what the runs say: how many numbers explain the variance, the choice, its test error and the line to type next."""
    if tuned.curve is not None:
        yield from statements(tuned.curve, percentages(explain))
        yield f"measured on the {tuned.curve.split} split; {sizes_tried(tuned.curve)}"
        yield f"picture: {tuned.folder.picture}"
    count, chosen = len(tuned.results), tuned.chosen
    if chosen is None:
        what = "no run has finished" if explain is None else f"no code that was tried explains {explain:g}% of the variance"
        yield f"nothing is chosen: {what}"
        return
    why = f"lowest validation error of {count:,} runs"
    if explain is not None:
        share = f"{tuned.code_size:,} numbers explain {tuned.explained:.1f}%"
        why = f"smallest code that explains {explain:g}% of the variance: {share}"
    if tuned.found is not None:
        yield from _search_words(tuned.found, chosen)
    yield f"chosen: {chosen.trial.folder} ({why}); it is now the run {tuned.folder.path.name}"
    if tuned.test is not None:
        model, pca = tuned.test.model.mse_per_value, tuned.test.pca.mse_per_value
        beside = f", {ratio(model, pca)} PCA with {tuned.test.components:,} numbers ({pca:.6f})" if pca > 0 else ""
        yield f"test MSE {model:.6f} per {tuned.value_name}{beside}; measured once, for the best of {count:,} runs"
    yield f"to train it again: tiedae train {quoted(tuned.folder.best_config)}"


def _search_words(found: Found, chosen: TrialResult) -> Iterator[str]:
    """Yield how much a search gained, by what, and which settings matter."""
    start = found.start
    if start is not None and start.mse_per_value and chosen.mse_per_value is not None:
        gained = 1 - chosen.mse_per_value / start.mse_per_value
        yield f"validation MSE {chosen.mse_per_value:.6f}, {gained:.1%} less than the config of the start ({start.mse_per_value:.6f})"
    yield from found.lines
    if found.importances:
        yield "importance: " + ", ".join(f"{name} {share:.2f}" for name, share in found.importances.items())


def tune_values(tuned: Tuned, explain: float | None) -> dict[str, Any]:
    """Return the result of a tuning as the JSON interface names it."""
    curve, chosen, test, found = tuned.curve, tuned.chosen, tuned.test, tuned.found
    sizes = None if curve is None else [curve_values(curve, one, percentages(explain)) for one in curve.curves]
    return {
        "folder": str(tuned.folder.path),
        "runs": len(tuned.results),
        "chosen": None if chosen is None else chosen.values(),
        "code_size": tuned.code_size,
        "explained_percent": tuned.explained,
        "test": None
        if test is None
        else {
            name: one.mse_per_value for name, one in (("model", test.model), ("pca", test.pca), ("mean_item", test.mean_item))
        },
        "split": None if curve is None else curve.split,
        "mean_mse_per_value": None if curve is None else curve.mean,
        "curves": sizes,
        "gains": None if found is None else [asdict(gain) for gain in found.gains],
        "importances": None if found is None else dict(found.importances),
        "picture": None if curve is None else str(tuned.folder.picture),
    }


def curve_values(found: RateDistortion, curve: Curve, percents: Sequence[float]) -> dict[str, Any]:
    """Return a curve beside PCA, and how many numbers explain each percentage of the variance."""
    points = [
        {"code_size": one.code_size, "mse_per_value": list(one.errors), "pca_mse_per_value": found.pca_error(one.code_size)}
        for one in curve.points
    ]
    numbers = []
    for percent in percents:
        model = curve.explaining(percent, found.mean)
        size = None if model is None else model.code_size
        numbers.append({"percent": percent, "pca": found.pca_explaining(percent), "autoencoder": size})
    return {
        "settings": curve.label,
        "points": points,
        "numbers": numbers,
        "seeds_differ_beyond": curve.seeds_differ_beyond,
    }
