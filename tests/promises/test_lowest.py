"""The lower bounds in pyproject.toml are the versions that the suite runs on in the environment of ``.ci/lowest``."""

import os
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PINNED = dict(re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / "tests/lowest.txt").read_text(encoding="utf-8"), re.MULTILINE))
RUN_BY_HAND = {"excel", "mlflow", "ray", "remote", "sklearn", "tune", "zarr"}  # extras that the suite skips without


def bounds() -> dict[str, str]:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras, tests = pyproject["project"]["optional-dependencies"], pyproject["dependency-groups"]["test"]
    needed = (line for name in extras.keys() - RUN_BY_HAND for line in extras[name])
    lines = [*pyproject["project"]["dependencies"], *needed, *tests]
    return {line.partition(">=")[0]: line.partition(">=")[2] for line in lines if not line.startswith("tiedae[")}


def plain(version: str) -> str:
    return re.sub(r"(\.0)+$", "", version)


def test_every_lower_bound_is_pinned_where_the_suite_runs_on_it() -> None:
    assert {name: plain(bound) for name, bound in bounds().items()} == {name: plain(pin) for name, pin in PINNED.items()}


@pytest.mark.skipif("TIEDAE_LOWEST" not in os.environ, reason="only in the environment of the lowest versions")
def test_this_environment_has_the_lowest_versions() -> None:
    installed = {name: metadata.version(name).partition("+")[0] for name in PINNED}
    assert {name: plain(version) for name, version in installed.items()} == {name: plain(pin) for name, pin in PINNED.items()}
