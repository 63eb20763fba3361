"""The config that a search chose, with comments on what each of its choices gained."""

from collections.abc import Sequence

from tiedae_cli.config.grid import plain
from tiedae_cli.runs.trials import TrialResult
from tiedae_cli.tuning.search import Gain


def commented(text: str, chosen: TrialResult, start: TrialResult | None, gains: Sequence[str], trials: int) -> str:
    """Return a config with a comment above it.

    Args:
        text: the config as YAML; its first line is a comment for editors.
        chosen: the trial that it is of.
        start: of the config that the search started from.
        gains: what each choice gained, in words.
        trials: how many were compared.
    """
    first, _, rest = text.partition("\n")
    error = chosen.mse_per_value
    lines = [
        f"Found by tiedae tune: trial {chosen.trial.number} of {trials:,}, validation MSE {error:.6g}{_less(chosen, start)}."
    ]
    if gains:
        lines += ["What each choice gained, measured with the start's value instead and all else equal:", *gains]
    return "\n".join([first, *(f"# {line}" for line in lines), rest])


def _less(chosen: TrialResult, start: TrialResult | None) -> str:
    """Return how the error compares with that of the start."""
    if start is None or not start.mse_per_value or chosen.mse_per_value is None or start.trial.number == chosen.trial.number:
        return ""
    return f", {1 - chosen.mse_per_value / start.mse_per_value:.0%} less than at the start ({start.mse_per_value:.6g})"


def gain_lines(chosen: TrialResult, gains: Sequence[Gain]) -> list[str]:
    """Return a line for each choice: its value, the start's, and how much larger the error is with that."""
    lines = []
    for gain in gains:
        value = f"{gain.name}: {plain(chosen.trial.settings[gain.name])}, was {plain(gain.before)}"
        if not gain.error or gain.beside_error is None:
            lines.append(f"{value}: not measured alone")
            continue
        change = 1 - gain.beside_error / gain.error
        other = "" if gain.beside == chosen.trial.number else f", beside trial {gain.beside}"
        lines.append(f"{value}: {abs(change):.1%} {'less' if change >= 0 else 'more'} error than {gain.error:.6g}{other}")
    return lines
