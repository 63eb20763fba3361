"""Optuna's search: interrupted or not it proposes the same, and it measures what each choice gained."""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiedae_cli.config import Config
from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.errors import InputError
from tiedae_cli.runs.trials import Trial, TuneFolder
from tiedae_cli.tuning import search as module
from tiedae_cli.tuning.best_config import gain_lines
from tiedae_cli.tuning.search import Search
from tiedae_cli.tuning.search_space import dimensions

pytest.importorskip("optuna", reason="needs the extra tune")
pytestmark = pytest.mark.slow

BASE = parse_config("training: {learning_rate: 0.02, batch_size: 100}\nmodel: {activation: elu}", "x")


def opened(path: Path, trials: int = 16, base: Config = BASE, storage: str | None = None) -> Search:
    """Open a search that varies three things."""
    path.mkdir(exist_ok=True)
    every = dimensions(base, [], ItemForm((1, 1, 9), "vectors"))
    space = [one for one in every if one.name in ("learning_rate", "batch_size", "activation")]
    return Search(TuneFolder(path), base, space, trials, None, storage)


def error_of(trial: Trial) -> float:
    """Return an error that is lowest for a learning rate of 0.001 and silu; the batch size does not matter."""
    rate, activation = float(trial.settings["learning_rate"]), trial.settings["activation"]
    return 1.0 + abs(math.log10(rate / 0.001)) + (0.0 if activation == "silu" else 0.5)


def train(search: Search, trial: Trial, error: float | None = None) -> None:
    """Leave what a training would leave."""
    trial.folder.mkdir()
    epoch = {"event": "epoch", "phase": "joint", "epoch": 1, "epochs": 1, "best": True, "seconds": 1.0}
    line = json.dumps(
        {**epoch, "validation_mse_per_value": error_of(trial) if error is None else error, "train_mse_per_value": 1.0}
    )
    (trial.folder / "metrics.jsonl").write_text(line + "\n")
    search.ended(trial, "finished")


def proposals(search: Search) -> Iterator[dict[str, object]]:
    """Train to the end, and yield what was proposed."""
    while True:
        with search.claimed() as trial:
            if trial is None:
                return
            train(search, trial)
            yield dict(trial.settings)


def test_an_interrupted_search_proposes_what_an_uninterrupted_one_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(proposals(opened(tmp_path / "whole")))
    assert len({json.dumps(one, sort_keys=True) for one in expected}) == 16
    assert expected[0] == {"learning_rate": 0.02, "batch_size": 100, "activation": "elu"}  # the start
    found = []
    for number, one in enumerate(proposals(opened(tmp_path / "cut"))):
        found.append(one)
        if number == 3:
            break
    with opened(tmp_path / "cut").claimed() as lost:  # killed in the training of trial 4
        assert lost is not None and lost.number == 4

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    search = opened(tmp_path / "cut")
    for _ in range(8):
        with search.claimed() as trial:
            assert trial is not None
            train(search, trial)
            found.append(dict(trial.settings))
    with monkeypatch.context() as patch:  # killed between two values of trial 12, which TPE proposes
        patch.setattr(search.study.sampler, "sample_independent", killed)
        with pytest.raises(KeyboardInterrupt), search.claimed():
            pass
    found += proposals(opened(tmp_path / "cut"))
    assert found == expected


def test_the_search_measures_what_each_choice_gained(tmp_path: Path) -> None:
    search = opened(tmp_path / "x", trials=30)
    list(proposals(search))
    best = search.best()
    assert best is not None and best.value is not None and best.value < 2
    gains = {gain.name: gain for gain in search.gains()}
    assert gains["activation"].before == "elu" and gains["activation"].error == pytest.approx(best.value + 0.5)
    chosen = next(one for one in search.results() if one.trial.number == best.number)
    expected = f"activation: silu, was elu: {1 - best.value / (best.value + 0.5):.1%} less error than {best.value + 0.5:.6g}"
    assert expected in gain_lines(chosen, search.gains())
    assert max(search.importances(), key=search.importances().__getitem__) != "batch_size"


def test_the_first_trials_move_from_the_best_one_and_the_next_stay_near_it(tmp_path: Path) -> None:
    """A trial keeps 80% of the best one's choices, and draws a fifth of the others like them."""
    kept = []
    for seed in range(8):
        base = parse_config(
            f"training: {{learning_rate: 0.02, batch_size: 100, seed: {seed}}}\nmodel: {{activation: elu}}", "x"
        )
        search = opened(tmp_path / str(seed), 20, base)
        rates, activations = [], ["elu"]
        for settings in proposals(search):
            rates.append(settings["learning_rate"])
            kept += [settings["activation"] == activations[-1]] if len(rates) > 4 else []
            best = search.best()
            assert best is not None
            activations.append(best.params["activation"])
        assert rates[:3] == [0.02, 0.04, 0.01] and activations[:3] == ["elu"] * 3
    assert 0.7 < sum(kept) / len(kept) < 0.95


def test_a_trial_may_take_a_tenth_of_the_time_or_twice_as_long_as_the_best_one(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    space = dimensions(BASE, [], ItemForm((1, 1, 9), "vectors"))
    search = Search(TuneFolder(tmp_path / "x"), BASE, space, None, time.time() + 1000)
    with search.claimed() as first:
        assert first is not None and first.longest == math.inf  # the start is never pruned
        train(search, first)
    with search.claimed() as second:
        assert second is not None and second.longest == pytest.approx(100, rel=0.02)


def test_a_search_without_a_number_of_trials_compares_as_many_as_it_can_tell_apart(tmp_path: Path) -> None:
    """The last ones of them measure what each choice gained."""
    (tmp_path / "x").mkdir()
    every = dimensions(BASE, [], ItemForm((1, 1, 9), "vectors"))
    space = [one for one in every if one.name in ("learning_rate", "batch_size", "activation")]
    search = Search(TuneFolder(tmp_path / "x"), BASE, space, None, time.time() + 1000, finished=20)
    pruned = 0
    while True:
        with search.claimed() as trial:
            if trial is None:
                break
            if trial.number % 5 == 4:
                (trial.folder).mkdir()
                search.ended(trial, "pruned")
                pruned += 1
            else:
                train(search, trial)
    states = [one.state for one in search.results()]
    assert states.count("finished") == 20 and states.count("pruned") == pruned > 2
    assert any(gain.error is not None for gain in search.gains())


def test_gains_are_those_of_an_earlier_best_trial_if_a_measurement_became_the_best(tmp_path: Path) -> None:
    search = opened(tmp_path / "x", trials=9)
    errors = iter([9.0, 8.0, 1.0, 0.9, 2.0])
    points = [  # the start, a move, the best; then the best with the start's batch size (better) and learning rate (worse)
        {"learning_rate": 0.001, "batch_size": 50, "activation": "silu"},
        {"learning_rate": 0.001, "batch_size": 100, "activation": "silu"},
        {"learning_rate": 0.02, "batch_size": 50, "activation": "silu"},
    ]
    for number in range(5):
        if number == 2:
            for point in points:
                search.study.enqueue_trial(point)
        with search.claimed() as trial:
            assert trial is not None
            train(search, trial, next(errors))
    best = search.best()
    assert best is not None and best.number == 3
    gains = {gain.name: gain for gain in search.gains()}
    assert (gains["learning_rate"].error, gains["learning_rate"].beside, gains["learning_rate"].beside_error) == (2.0, 2, 1.0)
    assert gains["activation"].error is None and "batch_size" not in gains
    chosen = next(one for one in search.results() if one.trial.number == 3)
    assert gain_lines(chosen, search.gains())[0] == "learning_rate: 0.001, was 0.02: 50.0% less error than 2, beside trial 2"


def test_only_the_best_trial_keeps_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(module, "remove_weights", lambda path: removed.append(path.name))
    search = opened(tmp_path / "x", trials=8)
    list(proposals(search))
    best = search.best()
    assert best is not None and sorted(removed) == sorted(f"trial-{n:04}" for n in range(8) if n != best.number)


def test_a_storage_is_shared_by_folders_of_one_name_and_refuses_another_config(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    for machine in ("a", "b"):
        (tmp_path / machine).mkdir()
    one, other = (opened(tmp_path / machine / "x", 6, storage=url) for machine in ("a", "b"))
    with one.claimed() as first, other.claimed() as second:
        assert first is not None and second is not None and (first.number, second.number) == (0, 1)
        train(one, first)
        train(other, second)
    assert len(list(proposals(one))) == 4 and not list(proposals(other))
    assert [result.state for result in other.results()] == ["finished"] * 6
    with pytest.raises(InputError, match="--storage: its study x searches another config"):
        opened(tmp_path / "b" / "x", 6, parse_config("training: {epochs: 9}", "x"), url)


def test_a_storage_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--storage: the study cannot be opened: "):
        opened(tmp_path / "x", storage="nonsense")
