"""A checkpoint is believed only when it is whole: every other file is one line of ``CheckpointError``, and nothing in it runs."""

import io
import json
import os
import pickle
import random
import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.config import Config, ModelConfig, TrainingConfig
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import CheckpointError
from tiedae_cli.runs import checkpoint
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.system.devices import Place
from tiedae_cli.training.trainer import Trainer

CONFIG = Config(model=ModelConfig(hidden_sizes=(12, 5)), training=TrainingConfig(epochs=1, batch_size=100))


@pytest.fixture(scope="module")
def trained():
    splits = load_splits(CONFIG.data)
    trainer = Trainer(CONFIG, splits, Place(torch.device("cpu")))
    list(trainer.train())
    return Checkpoint(CONFIG, splits.form, trainer.model.state_dict(), trainer.state(), "a run")


@pytest.fixture(scope="module")
def whole(trained):
    buffer = io.BytesIO()
    trained.write(buffer)
    return buffer.getvalue()


@pytest.fixture
def path(tmp_path):
    (tmp_path / "models").mkdir()
    return tmp_path / "models" / "model.safetensors"


def refused(path: Path, raw: bytes | None = None) -> str:
    """Return the message with which ``load`` refuses these bytes; it is one line that begins with the path."""
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def taken_apart(raw: bytes) -> tuple[dict, dict]:
    """Return the document and the tensors of a file."""
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return json.loads(header["__metadata__"][checkpoint.KEY]), safetensors.torch.load(raw)


def put_together(document: object, tensors: dict) -> bytes:
    return safetensors.torch.save(tensors, {checkpoint.KEY: json.dumps(document)})


def signed(document: dict, tensors: dict) -> bytes:
    """Write contents with the checksum that fits them, as somebody who means harm would."""
    unsigned = {name: value for name, value in document.items() if name != "sha256"}
    return put_together({**unsigned, "sha256": checkpoint._digest(unsigned, tensors)}, tensors)


def test_what_is_saved_is_loaded(trained, path):
    trained.save(path)
    found = checkpoint.load(path)
    assert (found.config, found.form, found.run) == (trained.config, trained.form, "a run")
    assert found.weights.keys() == trained.weights.keys()
    assert all(torch.equal(found.weights[name], trained.weights[name]) for name in found.weights)
    assert found.training.history == trained.training.history
    assert found.training.optimizer.keys() == trained.training.optimizer.keys()
    assert all(torch.equal(found.training.optimizer[name], value) for name, value in trained.training.optimizer.items())
    x = torch.rand(3, 64)
    model = found.model(torch.device("cpu"))
    assert torch.equal(model(x), trained.model(torch.device("cpu"))(x))


def test_statistics_of_vectors_come_back(trained, path):
    form = ItemForm((1, 1, 64), "vectors", np.arange(64.0), np.full(64, 0.5))
    replace(trained, form=form).save(path)
    found = checkpoint.load(path).form
    assert np.array_equal(found.offset, form.offset)
    assert np.array_equal(found.scale, form.scale)


def test_any_program_reads_the_weights(trained, path):
    trained.save(path)
    found = safetensors.torch.load_file(path)
    assert all(torch.equal(found[name], weight) for name, weight in trained.weights.items())
    beside = found.keys() - trained.weights.keys()
    assert all(name.startswith(("optimizer.", "training.", "form.")) for name in beside)


def test_the_same_state_is_the_same_file(trained, whole):
    again = io.BytesIO()
    trained.write(again)
    assert again.getvalue() == whole


def test_tensors_that_share_memory_are_saved_whole(trained, path):
    """A state that holds views of one buffer is written as if each tensor were its own."""
    flat = torch.arange(10.0)
    views = {"a": flat[:4], "b": flat[2:8], "c": flat[::2]}
    replace(trained, training=replace(trained.training, optimizer=views)).save(path)
    found = checkpoint.load(path).training.optimizer
    assert [found[name].tolist() for name in "abc"] == [[0, 1, 2, 3], [2, 3, 4, 5, 6, 7], [0, 2, 4, 6, 8]]


def test_what_load_would_refuse_is_not_saved(trained, path):
    with pytest.raises(TypeError, match="holds no torch.complex64"):
        optimizer = {"x": torch.zeros(2, dtype=torch.complex64)}
        replace(trained, training=replace(trained.training, optimizer=optimizer)).save(path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.slow
def test_flipped_bits(whole, path):
    chance = random.Random(1)
    loaded = 0
    for _ in range(300):
        raw = bytearray(whole)
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        path.write_bytes(raw)
        try:
            found = checkpoint.load(path)
        except CheckpointError as error:
            assert "\n" not in str(error)
        else:  # the bit was in padding
            again = io.BytesIO()
            found.write(again)
            assert again.getvalue() == whole
            loaded += 1
    assert loaded < 10


def test_truncations(whole, path):
    for length in [1, 2, 7, 8, 9, 100, len(whole) // 2, len(whole) - 23, len(whole) - 22, len(whole) - 1]:
        assert "damaged" in refused(path, whole[:length])


def test_zeroed_ranges(whole, path):
    for start in range(0, len(whole) - 512, len(whole) // 20):
        raw = bytearray(whole)
        raw[start : start + 512] = bytes(512)
        if bytes(raw) != whole:
            assert "damaged" in refused(path, bytes(raw))


def test_empty_missing_folder_pipe_device(path):
    assert refused(path) == "no such file"
    assert refused(path, b"") == "empty file"
    path.unlink()
    path.mkdir()
    assert refused(path) == "cannot be read: a folder, not a file"
    path.rmdir()
    os.mkfifo(path)
    assert refused(path) == "cannot be read: a pipe, not a file"
    assert refused(Path("/dev/zero")) == "cannot be read: a device, not a file"


def test_other_versions(whole, path):
    document, tensors = taken_apart(whole)
    message = refused(path, signed({**document, "version": checkpoint.VERSION + 1, "tiedae": "9.0"}, tensors))
    assert message.startswith(f"format version {checkpoint.VERSION + 1}, written by tiedae 9.0; this is ")
    assert message.endswith("upgrade tiedae")
    assert refused(path, signed({**document, "version": 1}, tensors)).endswith("train again")
    assert "no format version" in refused(path, signed({**document, "version": "1"}, tensors))


def saved(value: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def test_files_of_other_tools(path):
    state = torch.nn.Linear(3, 2).state_dict()
    assert "not a tiedae checkpoint" in refused(path, saved(state, _use_new_zipfile_serialization=False))
    assert "not a tiedae checkpoint" in refused(path, pickle.dumps({"format": checkpoint.FORMAT}))
    assert "not a tiedae checkpoint" in refused(path, b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert "not a tiedae checkpoint" in refused(path, safetensors.torch.save(state))
    assert "not a tiedae checkpoint" in refused(path, safetensors.torch.save(state, {"format": "pt"}))
    assert "not a tiedae checkpoint" in refused(path, put_together({"format": "other"}, state))
    assert "its metadata is not a JSON object" in refused(path, put_together([1], state))


class Harm:
    """Unpickled, it would make the folder that it names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_torch_archives_are_not_opened(path):
    for value in (torch.nn.Linear(3, 2).state_dict(), {"format": checkpoint.FORMAT, "x": Harm(path.parent / "HARM")}):
        assert refused(path, saved(value)) == "damaged, or not a tiedae checkpoint"
    assert not (path.parent / "HARM").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_objects_of_every_protocol(protocol, path):
    refused(path, pickle.dumps({"format": checkpoint.FORMAT, "x": Harm(path.parent / "HARM")}, protocol))
    assert not (path.parent / "HARM").exists()


def headed(header: object, values: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


def test_a_file_takes_no_more_memory_than_its_size(whole, path):
    """Tensors that claim more than is there, that overlap, or a header of another length than it says."""
    metadata = {"__metadata__": {checkpoint.KEY: json.dumps(taken_apart(whole)[0])}}
    one = {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}
    two = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    path.write_bytes(headed({**metadata, "layers.0.weight": one}, bytes(16)))
    tracemalloc.start()
    try:
        assert "damaged" in refused(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert "damaged" in refused(path, headed({**metadata, "a": two, "b": two}, bytes(16)))
    assert "damaged" in refused(path, headed({**metadata, "a": {**two, "shape": [5]}}, bytes(16)))
    assert "damaged" in refused(path, headed({**metadata, "a": two}, bytes(15)))
    assert "damaged" in refused(path, headed({**metadata, "a": two}, bytes(17)))
    assert "damaged" in refused(path, struct.pack("<Q", 1 << 62) + whole[8:])


def test_deep_nesting(whole, path):
    deep = "[" * 50_000 + "]" * 50_000
    refused(path, headed(deep.encode()))
    refused(path, headed({"__metadata__": {checkpoint.KEY: deep}}))


def test_swapped_tensors_of_equal_size(whole, path):
    """Adam's two moments have the same size: exchanged, the file's structure still holds."""
    document, tensors = taken_apart(whole)
    first, second = "optimizer.first_moment", "optimizer.second_moment"
    tensors[first], tensors[second] = tensors[second], tensors[first]
    assert refused(path, put_together(document, tensors)) == "damaged: its contents do not match their checksum"


def test_a_changed_document(whole, path):
    document, tensors = taken_apart(whole)
    document["training"]["epoch"] = 2
    assert refused(path, put_together(document, tensors)) == "damaged: its contents do not match their checksum"
    del document["sha256"]
    assert refused(path, put_together(document, tensors)) == "damaged: its contents do not match their checksum"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, t: t.update({"layers.0.weight": torch.zeros(12, 63)}), "weights do not have the shapes"),
        (lambda d, t: t.update({"layers.0.weight": torch.zeros(12, 64, dtype=torch.int64)}), "weights do not have the shapes"),
        (lambda d, t: t.update({"layers.0.weight": torch.full((12, 64), float("nan"))}), "weights are not finite"),
        (lambda d, t: t.pop("layers.1.weight"), "weights do not have the shapes"),
        (lambda d, t: t.update({"score.mean": torch.full((64,), float("inf"))}), "weights do not have the shapes"),
        (lambda d, t: t.update({"more": torch.zeros(1)}), "weights do not have the shapes"),
        (lambda d, t: d["form"].update(shape=[1, 8, 9]), "weights do not have the shapes"),
        (lambda d, t: d["form"].update(shape=[1, 8]), "form.shape"),
        (lambda d, t: d["form"].update(shape=[1, 8, -8]), "impossible form"),
        (lambda d, t: d["form"].update(shape=[1, 8, 10**30]), "impossible form"),
        (lambda d, t: d["form"].update(kind="sounds"), "impossible form"),
        (lambda d, t: d["form"].update(scale="0.1"), "form.scale"),
        (lambda d, t: d["form"].update(scale=float("nan")), "form.scale"),
        (lambda d, t: d["form"].update(scale=0.0), "scale of its data is impossible"),
        (lambda d, t: d["form"].update(scale=None), "scale of its data is impossible"),
        (lambda d, t: t.update({"form.offset": torch.zeros(3)}), "offset of its data is impossible"),
        (lambda d, t: t.update({"form.offset": torch.full((64,), float("inf"))}), "offset of its data is impossible"),
        (lambda d, t: d["config"]["model"].update(hidden_sizes=[12, 6]), "weights do not have the shapes"),
        (lambda d, t: d["config"]["model"].update(hidden_sizes=[65536] * 64), "weights do not have the shapes"),
        (lambda d, t: d["config"]["training"].update(epochs=-1), "must be greater than or equal to 1"),
        (lambda d, t: d["config"]["model"].update(code_top_k=6), "the code has only 5 units"),
        (lambda d, t: d.update(config=[1]), "config"),
        (lambda d, t: d.update(form=None), "form"),
        (lambda d, t: d.update(training=3), "training"),
        (lambda d, t: d.update(unknown=3), "unknown"),
        (lambda d, t: d["training"].pop("history"), "training.history"),
        (lambda d, t: d["training"].update(epoch="1"), "training.epoch"),
        (lambda d, t: d["training"].update(seconds=float("nan")), "training.seconds"),
        (lambda d, t: d["training"].update(data={"train": 3}), "training.data.train"),
        (lambda d, t: d["training"]["history"][0].pop("best"), "training.history.0.best"),
        (lambda d, t: d["training"]["history"][0].update(train_mse_per_value="0.1"), "history.0.train_mse_per_value"),
        (lambda d, t: d["training"]["history"][0].update(seconds=float("inf")), "history.0.seconds"),
        (lambda d, t: d["training"]["history"][0].update(unknown=1), "history.0.unknown"),
        (lambda d, t: d["training"]["history"].append(3), "training.history.1"),
        (lambda d, t: d.update(run=5), "run"),
    ],
)
def test_wrong_contents_with_the_right_checksum(change, message, whole, path):
    document, tensors = taken_apart(whole)
    change(document, tensors)
    assert message in refused(path, signed(document, tensors))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, step=10**6),
        lambda s: replace(s, step=-1),
        lambda s: replace(s, epoch=7),
        lambda s: replace(s, phase="layer 9"),
        lambda s: replace(s, errors=torch.zeros(3)),
        lambda s: replace(s, optimizer={}),
        lambda s: replace(s, optimizer={**s.optimizer, "first_moment": torch.zeros(1)}),
        lambda s: replace(s, optimizer={**s.optimizer, "momentum": torch.zeros(1)}),
        lambda s: replace(s, history=()),
    ],
)
def test_impossible_training_states(change, trained):
    trainer = Trainer(CONFIG, load_splits(CONFIG.data), Place(torch.device("cpu")))
    with pytest.raises(CheckpointError, match="its training state does not fit"):
        trainer.restore(trained.weights, change(trained.training))


@pytest.mark.parametrize("command", [["eval"], ["reconstruct"], ["train", "--resume"]])
def test_the_command_line_says_one_line_and_exits_1(command, tmp_path):
    path = tmp_path / "last.safetensors"
    path.write_bytes(saved({"x": Harm(tmp_path / "HARM")}))
    result = CliRunner().invoke(app, [*command, str(path)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"error: {path}: damaged, or not a tiedae checkpoint")
    assert not (tmp_path / "HARM").exists()


def test_config_of_a_checkpoint_is_validated_like_a_file(whole, path):
    document, tensors = taken_apart(whole)
    message = refused(path, signed({**document, "config": {"model": {"hidden_size": [3]}}}, tensors))
    assert "model.hidden_size: unknown key; type `model: {hidden_sizes: [3]}`" in message
