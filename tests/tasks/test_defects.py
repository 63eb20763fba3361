"""The recipe ``defects``: trained on good parts, it ranks defective ones first and locates the defect."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiedae
from PIL import Image

import tiedae_cli
from tiedae_cli.runs import checkpoint

pytestmark = pytest.mark.slow

SIDE = 16
SMALL = ["training.steps=60", "training.batch_size=32", "model.layers=[conv 4 4 2, dense 8]"]


def part(random: np.random.Generator) -> np.ndarray:
    """Return a bright disc, slightly off center, (SIDE, SIDE) uint8."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    y, x = SIDE / 2 + random.uniform(-1, 1, 2)
    disc = np.clip(6.5 - np.hypot(rows - y, columns - x), 0, 1)
    return (disc * random.uniform(180, 250)).astype(np.uint8)


def invoke(tiedae: Tiedae, *arguments: str, code: int = 0) -> list[dict[str, object]]:
    result = tiedae(*arguments)
    assert result.code == code, result.err
    return [json.loads(line) for line in result.out.splitlines() if line.startswith("{")]


def sets(*assignments: str) -> list[str]:
    return [word for assignment in assignments for word in ("--set", assignment)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiedae: Tiedae) -> Path:
    """Good parts, other parts with a piece missing from every fifth, and a run on the good ones."""
    place = tmp_path_factory.mktemp("defects")
    random = np.random.default_rng(0)
    for name in ("good", "new"):
        (place / name).mkdir()
        for number in range(200 if name == "good" else 50):
            image = part(random)
            if name == "new" and number % 5 == 0:
                image[6:10, 5 : 5 + 4] = 0
            Image.fromarray(image).save(place / name / f"{number:03}.png")
    invoke(
        tiedae,
        "train",
        "-q",
        "--config",
        "defects",
        *sets(f"data.dataset={place / 'good'}", *SMALL),
        "--run-dir",
        str(place / "run"),
    )
    return place


def test_defective_parts_rank_first_and_the_defect_is_located(folder: Path, tiedae: Tiedae) -> None:
    found = invoke(
        tiedae, "score", str(folder / "run"), str(folder / "new"), "-q", "--top", "10", "--explain", "1", "--threshold", "0"
    )
    assert {Path(str(line["item"])).stem for line in found} == {f"{number:03}" for number in range(0, 50, 5)}
    for line in found:
        (reason,) = line["because"]  # type: ignore[misc]
        assert 5 <= reason["top"] <= 9 and 4 <= reason["left"] <= 8  # a region of 2 x 2 that touches the piece
        assert reason["value"] < 60 < reason["expected"]
        assert line["score"] == pytest.approx(float(reason["share"]) * float(str(line["squared_error"])), rel=1e-4)


def test_python_gives_the_same_scores_as_the_command(folder: Path, tiedae: Tiedae) -> None:
    images = np.stack([np.asarray(Image.open(path)) for path in sorted((folder / "new").iterdir())])
    found = invoke(tiedae, "score", str(folder / "run"), str(folder / "new"), "-q")
    assert tiedae_cli.load(folder / "run").score(images) == pytest.approx([line["score"] for line in found], rel=1e-4)


def test_ranking_by_region_needs_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiedae: Tiedae) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).normal(size=(40, 3)))
    for more, message in (
        (("score.rank=region",), "score.rank: region looks at parts of images; x.npy holds vectors of 3 features"),
        (("score.rank=region", "data.window=4"), "score.rank: region works on images"),
    ):
        result = tiedae("train", "--config", "vectors", *sets("data.dataset=x.npy", *more))
        assert result.code == 2 and message in result.err, result.err


def test_neighbours_rank_alike_after_training_on_one_or_two_processes(folder: Path, tiedae: Tiedae) -> None:
    """Only the leading process fits the statistics, from the weights that all processes share."""
    given = sets(f"data.dataset={folder / 'good'}", *SMALL, "score.rank=neighbours", "training.optimizer=adam")
    for count in (1, 2):
        name = str(folder / f"of-{count}")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        command = [sys.executable, "-m", "tiedae_cli", "train", "-q", "--device", "cpu", "--config", "defects", *given]
        ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)} for rank in range(count)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        children = [
            subprocess.Popen(
                [*command, "--run-dir", name], env=environment | rank, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            for rank in ranks
        ]
        for child in children:
            _, errors = child.communicate(timeout=120)
            assert child.returncode == 0, errors
        finished = checkpoint.load(f"{name}/best.safetensors").finished
        assert finished is not None
        kept = finished.score
        assert kept["references"].shape == (160, 2 * SIDE * SIDE)
        found = invoke(tiedae, "score", name, str(folder / "new"), "-q", "--top", "10")
        assert {Path(str(line["item"])).stem for line in found} == {f"{number:03}" for number in range(0, 50, 5)}
    one, two = (invoke(tiedae, "score", str(folder / f"of-{count}"), str(folder / "new"), "-q") for count in (1, 2))
    assert [line["score"] for line in two] == pytest.approx([line["score"] for line in one], rel=0.05)
