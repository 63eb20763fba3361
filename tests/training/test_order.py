"""The order of an epoch: a permutation either way, near neighbours together in blocks, the same wherever it is resumed."""

import json
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.runs import checkpoint
from tiedae_cli.system.random_streams import block_order
from tiedae_cli.training import order as ordering
from tiedae_cli.training.order import Order
from tiedae_cli.training.training_set import TrainingSet


def vectors(count: int, indices: torch.Tensor | None = None) -> TrainingSet:
    rows = torch.arange(count, dtype=torch.float32).view(-1, 1).repeat(1, 4)
    return TrainingSet(rows, ItemForm((1, 1, 4), kind="vectors"), torch.device("cpu"), indices)


@pytest.mark.parametrize(("images", "block", "window"), [(1000, 10, 8), (1003, 10, 7), (5, 10, 8), (64, 1, 64), (100, 100, 1)])
def test_block_order_is_a_permutation_whose_windows_are_whole_blocks(images: int, block: int, window: int) -> None:
    order = block_order(1, 2, images, block, window)
    assert order.sort().values.tolist() == list(range(images))
    assert torch.equal(order, block_order(1, 2, images, block, window))
    if images > 10:
        assert not torch.equal(order, block_order(1, 3, images, block, window))
    if images % block == 0:
        for part in torch.split(order, block * window):
            counts = torch.bincount(part // block)
            assert set(counts.tolist()) <= {0, block}, "each window takes whole blocks"


def test_blocks_and_their_items_are_shuffled() -> None:
    """Within a window the item before is a neighbour as seldom as in a random order; and every block is as likely to be first."""
    order = block_order(0, 0, 100_000, 100, 50)
    assert (order.diff() == 1).float().mean() < 0.001
    firsts = torch.stack([block_order(0, epoch, 1000, 100, 2)[:200] // 100 for epoch in range(400)])
    shares = torch.bincount(firsts.flatten(), minlength=10) / firsts.numel()
    assert (shares - 0.1).abs().max() < 0.04


def test_reading_ahead_touches_each_window_once_and_forwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "BLOCK_BYTES", 16 * 10)  # ten items of 16 bytes
    monkeypatch.setattr(ordering, "WINDOW", 3)
    kept = torch.arange(200)[torch.arange(200) % 7 != 3]  # a training split: every seventh item belongs to another
    order = Order(vectors(200, kept), "blocks", 5)
    touched: list[int] = []

    class Rows:
        """Records what is read of it."""

        device = torch.device("cpu")

        def element_size(self) -> int:
            return 4

        def __getitem__(self, at: tuple[slice, slice]) -> torch.Tensor:
            touched.extend(range(at[0].start, at[0].stop))
            return torch.zeros(1)

    visited = order.of(0)
    monkeypatch.setattr(order.items, "rows", Rows())
    for item in range(0, len(kept), 4):
        before = len(touched)
        order.read_ahead(visited, item)
        assert touched[before:] == sorted(touched[before:])
        assert set(visited[item : item + 4].tolist()) <= set(touched) or item // order.window != (item + 3) // order.window
    assert set(kept.tolist()) <= set(touched)
    assert len(touched) < 1.5 * len(kept)


@pytest.mark.slow
def test_data_larger_than_half_of_the_memory_is_shuffled_in_blocks_and_stays_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told once, kept in the run's config, and not chosen anew on a machine with more memory."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (600, 8, 8), dtype=np.uint8))
    small = psutil.virtual_memory()._replace(total=60_000)
    command = [
        "train",
        "--set",
        f"data.dataset={tmp_path / 'x.npy'}",
        "--set",
        "training.epochs=1",
        "--set",
        "model.hidden_sizes=[4]",
    ]
    command += ["--set", "training.batch_size=50", "--device", "cpu"]
    with monkeypatch.context() as patched:
        patched.setattr(psutil, "virtual_memory", lambda: small)
        result = CliRunner().invoke(app, [*command, "--run-dir", str(tmp_path / "run")])
    assert result.exit_code == 0, result.stderr
    assert "shuffled in blocks" in result.stderr
    assert checkpoint.load(tmp_path / "run" / "last.safetensors").config.training.shuffle == "blocks"
    more = [*command[:3], "--set", "training.epochs=2", *command[5:], "--run-dir", str(tmp_path / "run"), "--resume", "--json"]
    result = CliRunner().invoke(app, more)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["checkpoint"].endswith("best.safetensors")
    other = CliRunner().invoke(app, [*more, "--set", "training.shuffle=items"])
    assert other.exit_code == 2
    assert "training.shuffle: blocks -> items" in other.stderr
