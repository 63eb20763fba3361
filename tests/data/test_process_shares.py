"""Processes that train together each hold a share of the data, and see all of it as one process does; here they are threads."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from thread_ranks import in_threads

from tiedae_cli.config import Config, DataConfig
from tiedae_cli.data.checksum import ROW_BYTES, Sums, checksum, checksum_of
from tiedae_cli.data.item_set import SPLITS, Splits
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.data.shares import block_rows
from tiedae_cli.data.windows import row_blocks
from tiedae_cli.errors import DataError
from tiedae_cli.report.window_chapter import window_titles
from tiedae_cli.runs.data_identity import identities
from tiedae_cli.system.devices import Place, Ranks
from tiedae_cli.training.order import shuffle_of
from tiedae_cli.training.trainer import Trainer

RNG = np.random.default_rng(0)
ROWS = RNG.normal(3, 2, (9000, 7)).astype(np.float32)


def npy(path: Path, values: np.ndarray) -> str:
    np.save(path / "x.npy", values)
    return str(path / "x.npy")


def csv(path: Path) -> str:
    cells = ROWS[:4000].astype(str)
    cells[RNG.random(cells.shape) < 0.02] = ""
    labels = RNG.choice(["a", "b"], len(cells))
    lines = [",".join((*row, label)) for row, label in zip(cells.tolist(), labels, strict=True)]
    (path / "x.csv").write_text("\n".join(["a,b,c,d,e,f,g,kind", *lines]))
    return str(path / "x.csv")


def npz(path: Path) -> str:
    np.savez(path / "x.npz", train=ROWS[:8000], validation=ROWS[8000:], train_labels=np.arange(8000) % 3)
    return str(path / "x.npz")


def torch_file(path: Path) -> str:
    torch.save(torch.from_numpy(ROWS), path / "x.pt")
    return str(path / "x.pt")


SOURCES: dict[str, tuple[Callable[[Path], str], dict[str, object]]] = {
    "npy": (lambda path: npy(path, ROWS), {}),
    "npy of images of 12 bits": (lambda path: npy(path, RNG.integers(0, 4096, (3000, 9, 9)).astype(np.uint16)), {}),
    "npy in Fortran order": (lambda path: npy(path, np.asfortranarray(ROWS)), {"scaling": "robust", "validation": 0}),
    "npy with missing values": (
        lambda path: npy(path, np.where(RNG.random(ROWS.shape) < 0.01, np.nan, ROWS)),
        {"missing": "mean", "scaling": "minmax"},
    ),
    "npz with a validation split": (npz, {}),
    "torch": (torch_file, {}),
    "csv with skipped rows and labels": (csv, {"missing": "drop", "label": "kind", "normal": "a"}),
    "windows": (lambda path: npy(path, ROWS), {"window": 30, "stride": 4}),
    "windows of a csv with gaps": (csv, {"missing": "drop", "label": "kind", "window": 3}),
    "the bundled digits": (lambda path: "digits", {}),
}


def rows_seen(splits: Splits, ranks: Ranks) -> list[np.ndarray]:
    """Return the items of each split as the model sees them."""
    return ranks.led(lambda: [splits.get(name).batch(0, len(splits.get(name))) for name in SPLITS])


def row_numbers(splits: Splits, ranks: Ranks, stride: int) -> list[object]:
    """Return the names of the rows of each split and the titles of its windows."""

    def read() -> list[object]:
        found = [splits.get(name) for name in SPLITS]
        names = [[list(block.items) for block in row_blocks(items, 100, stride)] for items in found]
        return [*names, *(window_titles(items, range(len(items))) for items in found)]

    return ranks.led(read)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["windows", "windows of a csv with gaps"])
def test_rows_of_windows_have_the_numbers_that_one_process_gives_them(tmp_path: Path, source: str) -> None:
    """A row is numbered within its split, in the report of a training as in that of its checkpoint."""
    write, keys = SOURCES[source]
    config = DataConfig.model_validate({"dataset": write(tmp_path), **keys})
    alone = row_numbers(load_splits(config), Ranks(), config.stride)
    assert alone[2][0][0] == 0  # type: ignore[index]
    assert in_threads(2, lambda ranks: row_numbers(load_splits(config, processes=ranks), ranks, config.stride)) == [
        alone,
        alone,
    ]


@pytest.mark.parametrize("source", SOURCES)
def test_shares_add_up_to_the_data_of_one_process(tmp_path: Path, source: str) -> None:
    """Scaling, splits, labels, identity and every value: the same bits. What the processes hold adds up to the items."""
    write, keys = SOURCES[source]
    config = DataConfig.model_validate({"dataset": write(tmp_path), **keys})
    alone = load_splits(config)
    known, values = identities(alone), rows_seen(alone, Ranks())

    def one(ranks: Ranks) -> tuple[Splits, list[np.ndarray], object, list[int]]:
        splits = load_splits(config, processes=ranks)
        held = [len(splits.get(name).held()) for name in SPLITS]
        return splits, rows_seen(splits, ranks), identities(splits), held

    together = in_threads(3, one)
    for splits, seen, known_together, _ in together:
        assert known_together == known
        for name, mine, theirs in zip(SPLITS, values, seen, strict=True):
            np.testing.assert_array_equal(theirs, mine, err_msg=name)
            np.testing.assert_array_equal(splits.get(name).labels, alone.get(name).labels, err_msg=name)
    lengths = [len(alone.get(name)) for name in SPLITS]
    assert np.sum([held for *_, held in together], axis=0).tolist() == lengths
    stored = [len(splits.train.values) for splits, *_ in together]
    assert max(stored) < alone.train.count_in_memory


def trained(splits: Splits, ranks: Ranks, **training: object) -> Trainer:
    config = Config.model_validate(
        {"model": {"hidden_sizes": [6, 3], "output": "linear"}, "training": {"epochs": 1, "batch_size": 161, **training}}
    )
    trainer = Trainer(config, splits, Place(torch.device("cpu"), ranks=ranks))
    list(trainer.train())
    return trainer


@pytest.mark.parametrize(
    "training",
    [
        {},
        pytest.param({"shuffle": "blocks"}, marks=pytest.mark.slow),
        pytest.param({"pretraining_epochs": 1, "corruption": "gaussian"}, marks=pytest.mark.slow),
    ],
    ids=["items", "blocks", "pretraining"],
)
def test_sorted_rows_in_shares_train_as_in_one_process(tmp_path: Path, training: dict[str, object]) -> None:
    """The rows of a batch come from all processes, in the order of one process, so it does not matter who holds which."""
    config = DataConfig(dataset=npy(tmp_path, ROWS[:6000][np.argsort(ROWS[:6000, 0])]))
    alone = trained(load_splits(config), Ranks(), **training)
    together = in_threads(2, lambda ranks: trained(load_splits(config, processes=ranks), ranks, **training))
    assert shuffle_of(together[0].splits.train, "auto") == "items"
    for name, weight in alone.model.state_dict().items():
        assert torch.equal(together[1].model.state_dict()[name], together[0].model.state_dict()[name]), name
        torch.testing.assert_close(together[0].model.state_dict()[name], weight, rtol=0, atol=2e-5, msg=name)
    for mine, theirs in zip(alone.history, together[1].history, strict=True):
        assert theirs.train_mse_per_value == pytest.approx(mine.train_mse_per_value, rel=1e-5)
        assert theirs.validation_mse_per_value == pytest.approx(mine.validation_mse_per_value, rel=1e-5)


def messages_of(paths: Sequence[str]) -> list[str]:
    """Return the errors of two processes that load files."""

    def one(ranks: Ranks) -> str:
        with pytest.raises(DataError) as caught:
            load_splits(DataConfig(dataset=paths[ranks.rank]), processes=ranks)
        return str(caught.value)

    return in_threads(2, one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: x[:-1],
            "the data of process 1 differs from that of process 0: 8,999 x 7 values of type float32, not 9,000 x 7",
        ),
        (lambda x: x + (np.arange(63000).reshape(9000, 7) == 40000), "as many items, but their values differ"),
        (lambda x: np.where(np.arange(7) == 6, np.inf, x), "row 1 holds infinity"),
    ],
    ids=["rows", "one value", "unreadable"],
)
def test_processes_with_other_values_are_refused_in_all(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    found = messages_of([npy(tmp_path, ROWS), npy(other, change(ROWS).astype(np.float32))])
    assert all(message in one for one in found), found


def test_a_process_that_is_alone_asks_for_no_rows(tmp_path: Path) -> None:
    """Rows of others are read only while they answer: a mistake fails at once, in place of waiting forever."""
    config = DataConfig(dataset=npy(tmp_path, ROWS))

    def one(ranks: Ranks) -> Splits:
        return load_splits(config, processes=ranks)

    first = in_threads(2, one)[0]
    with pytest.raises(AssertionError, match="do not answer now"):
        first.train.batch(0, 10)


@pytest.mark.parametrize("row_bytes", [1, 7, 28, 256, 784, 4096, 5000, 1 << 22])
def test_blocks_begin_where_the_checksum_adds_up(row_bytes: int) -> None:
    for count in (None, 10, 10**6, 10**9):
        for overlap in (0, 5, 10_000):
            rows = block_rows(row_bytes, 4, count, overlap)
            assert rows >= max(1, overlap) and rows * row_bytes % ROW_BYTES == 0


def test_the_checksum_of_an_array_stays_what_checkpoints_hold() -> None:
    values = np.arange(3_000_001, dtype=np.int32).astype(np.uint8)
    assert checksum(values) == "4b61a5553a655e8a3b0bdc2e0928100b94f82b2ecd850a04942c9ea4db3134e4"
    pieces = np.split(values, [ROW_BYTES, 100 * ROW_BYTES])
    assert checksum_of([Sums.of(piece) for piece in pieces]) == checksum(values)
