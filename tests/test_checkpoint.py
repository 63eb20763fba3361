"""A checkpoint is believed only when it is whole: every other file is one line of ``CheckpointError``, and nothing in it runs."""

import io
import os
import pickle
import random
import struct
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.config import Config, ModelConfig, TrainingConfig
from tiedae_cli.data import DataForm, load_splits
from tiedae_cli.errors import CheckpointError
from tiedae_cli.runs import checkpoint
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.system.runtime import Place
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
    return tmp_path / "models" / "model.pt"


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


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def members_of(raw: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(raw)) as file:
        return {name: file.read(name) for name in file.namelist()}


def with_pickle(raw: bytes, content: bytes) -> bytes:
    return archive({**members_of(raw), "archive/data.pkl": content})


def contents_of(raw: bytes) -> dict:
    return torch.load(io.BytesIO(raw), weights_only=True)


def signed(contents: dict) -> bytes:
    """Save contents with the checksum that fits them, as somebody who means harm would."""
    parts = {key: contents[key] for key in checkpoint.CONTENTS}
    buffer = io.BytesIO()
    torch.save({**contents, "sha256": checkpoint._digest(parts)}, buffer)
    return buffer.getvalue()


def test_what_is_saved_is_loaded(trained, path):
    trained.save(path)
    found = checkpoint.load(path)
    assert (found.config, found.form, found.run) == (trained.config, trained.form, "a run")
    assert found.weights.keys() == trained.weights.keys()
    assert all(torch.equal(found.weights[name], trained.weights[name]) for name in found.weights)
    assert found.training["history"] == trained.training["history"]
    moments = found.training["optimizer"]["second_moment"]
    assert torch.equal(moments, trained.training["optimizer"]["second_moment"])
    x = torch.rand(3, 64)
    model = found.model(torch.device("cpu"))
    assert torch.equal(model(x), trained.model(torch.device("cpu"))(x))


def test_statistics_of_vectors_come_back(trained, path):
    form = DataForm((1, 1, 64), "vectors", torch.arange(64.0), torch.full((64,), 0.5))
    replace(trained, form=form).save(path)
    found = checkpoint.load(path).form
    assert torch.equal(found.offset, form.offset)
    assert torch.equal(found.scale, form.scale)


def test_tensors_that_share_memory_are_saved_whole(trained, path):
    """A state that holds views of one buffer is written as if each tensor were its own."""
    flat = torch.arange(10.0)
    replace(trained, training={**trained.training, "views": [flat[:4], flat[2:8], flat[::2]]}).save(path)
    views = checkpoint.load(path).training["views"]
    assert [view.tolist() for view in views] == [[0, 1, 2, 3], [2, 3, 4, 5, 6, 7], [0, 2, 4, 6, 8]]


def test_what_load_would_refuse_is_not_saved(trained, path):
    with pytest.raises(TypeError, match="holds no torch.complex64"):
        replace(trained, training={**trained.training, "x": torch.zeros(2, dtype=torch.complex64)}).save(path)
    assert list(path.parent.iterdir()) == []


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
        else:  # the bit was in padding or in a date
            again = io.BytesIO()
            found.write(again)
            assert contents_of(again.getvalue())["sha256"] == contents_of(whole)["sha256"]
            loaded += 1
    assert loaded < 100


def test_truncations(whole, path):
    for length in [1, 2, 21, 22, 23, 100, len(whole) // 2, len(whole) - 23, len(whole) - 22, len(whole) - 1]:
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
    assert refused(path) == "a folder, not a checkpoint"
    path.rmdir()
    os.mkfifo(path)
    assert refused(path) == "a device or a pipe, not a checkpoint"
    assert refused(Path("/dev/zero")) == "a device or a pipe, not a checkpoint"


def test_newer_version(whole, path):
    contents = contents_of(whole)
    message = refused(path, signed({**contents, "version": checkpoint.VERSION + 1, "tiedae": "9.0"}))
    assert message.startswith(f"format version {checkpoint.VERSION + 1}, written by tiedae 9.0; this is ")
    assert "upgrade" in message
    assert "no format version" in refused(path, signed({**contents, "version": "1"}))


def saved(value: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def test_files_of_other_tools(path):
    state = torch.nn.Linear(3, 2).state_dict()
    assert "not a tiedae checkpoint" in refused(path, saved(state))
    assert "not a tiedae checkpoint" in refused(path, saved(torch.nn.Linear(3, 2)))
    assert "not a tiedae checkpoint" in refused(path, saved(state, _use_new_zipfile_serialization=False))
    assert "not a tiedae checkpoint" in refused(path, saved([1, 2]))
    assert "not a tiedae checkpoint" in refused(path, pickle.dumps({"format": checkpoint.FORMAT}))
    assert "not a tiedae checkpoint" in refused(path, archive({"word/document.xml": b"<xml/>"}))
    assert "not a tiedae checkpoint" in refused(path, b"\x89PNG\r\n\x1a\n" + bytes(100))


class Harm:
    """Unpickled, it would make the folder that it names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


HARM_BY_HAND = {
    "global and reduce": b"\x80\x02cposix\nmkdir\nX\x04\x00\x00\x00HARM\x85R.",
    "stack global": b"\x80\x04\x8c\x05posix\x8c\x05mkdir\x93\x8c\x04HARM\x85R.",
    "inst": b"(X\x04\x00\x00\x00HARMiposix\nmkdir\n.",
    "obj": b"(cposix\nmkdir\nX\x04\x00\x00\x00HARMo.",
    "build": b"\x80\x02ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00aK\x01sb.",
    "extension": b"\x80\x02\x82\x01.",
    "eval": b"\x80\x02c__builtin__\neval\nX\x1e\x00\x00\x00__import__('os').mkdir('HARM')\x85R.",
    "torch's own loader": b"\x80\x02ctorch.hub\nload\nX\x04\x00\x00\x00HARM\x85R.",
    "name below an allowed module": b"\x80\x02ctorch._utils\n_import_dotted_name\nX\x08\x00\x00\x00os.mkdir\x85R.",
}


@pytest.mark.parametrize("kind", HARM_BY_HAND)
def test_pickles_that_would_run_code(kind, whole, path, monkeypatch):
    monkeypatch.chdir(path.parent)
    assert "refused: its pickle" in refused(path, with_pickle(whole, HARM_BY_HAND[kind]))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_objects_of_every_protocol(protocol, whole, path):
    content = pickle.dumps({"format": checkpoint.FORMAT, "x": Harm(path.parent / "HARM")}, protocol)
    assert "refused: its pickle" in refused(path, with_pickle(whole, content))
    refused(path, content)  # also without an archive around it
    assert not (path.parent / "HARM").exists()


def test_pickles_that_are_none(whole, path):
    for content in (b"", b"\x80\x02", b"garbage", b"\x80\x02}", b"\x80\x02N.", b"\x80\x02h\x07.", bytes(range(256))):
        refused(path, with_pickle(whole, content))


def test_zip_bomb_is_refused_before_it_is_unpacked(whole, path):
    """200 MB of zeros deflate to 200 kB; they are never unpacked."""
    members = {**members_of(whole), "archive/data/0": bytes(200_000_000)}
    path.write_bytes(archive(members, zipfile.ZIP_DEFLATED))
    del members
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    try:
        assert refused(path) == "refused: it claims to hold more than its own size"
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_overlapping_members_are_refused(whole, path):
    """Many names for the same bytes (D. Fifield 2019, "A better zip bomb"), each stored and each with a checksum that holds."""
    content = bytes(1_000_000)
    plain = archive({"archive/data.pkl": members_of(whole)["archive/data.pkl"], "archive/data/0": content})
    with zipfile.ZipFile(io.BytesIO(plain)) as file:
        start, entry = file.start_dir, file.getinfo("archive/data/0")
    directory = plain[start:-22]
    last = directory[directory.rindex(b"PK\x01\x02") :]
    copies = b"".join(last.replace(b"archive/data/0", b"archive/data/%d" % (i % 10)) for i in range(500))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 502, 502, len(directory + copies), start, 0)
    assert "more than its own size" in refused(path, plain[:start] + directory + copies + end)
    assert entry.file_size == len(content)


def test_torch_sees_only_the_archive_that_was_checked(whole, path):
    """An archive before the archive: zipfile reads the second directory, torch's own reader might read the first."""
    inner = saved({"format": "other"})
    path.write_bytes(inner + whole)
    assert checkpoint.load(path).run == "a run"


def test_swapped_members_of_equal_size(trained, path):
    """Adam's two moments have the same size: exchanged, every checksum of the archive still holds."""
    buffer = io.BytesIO()
    trained.write(buffer)
    members = members_of(buffer.getvalue())
    sizes: dict[int, str] = {}
    for name, content in members.items():
        twin = sizes.setdefault(len(content), name)
        if twin != name and name.startswith("archive/data/") and members[twin] != content:
            members[twin], members[name] = content, members[twin]
            break
    else:
        pytest.fail("no two parts of the same size")
    assert refused(path, archive(members)) == "damaged: its contents do not match their checksum"


def test_changed_byte_order(whole, path):
    assert "checksum" in refused(path, archive({**members_of(whole), "archive/byteorder": b"big"}))


def test_two_members_of_one_name(whole, path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        buffer = io.BytesIO(whole)
        with zipfile.ZipFile(buffer, "a") as file:
            file.writestr("archive/data/0", b"other")
    assert refused(path, buffer.getvalue()) == "damaged: two parts have the same name"


def test_tensor_that_claims_more_than_its_storage(whole, path):
    contents = contents_of(whole)
    huge = torch.zeros(1).expand(1 << 40)  # one stored value, 4 TB if it were written out
    contents["weights"]["weights.0"] = huge
    contents["sha256"] = "0"
    assert "a tensor is not exactly what it stores" in refused(path, saved(contents))


def test_storage_that_claims_more_than_its_member(whole, path):
    """The pickle says how many values a storage has; torch compares it with the member, so it is no way out of the buffer."""
    members = members_of(whole)
    content = members["archive/data.pkl"]
    position = content.index(b"X\x03\x00\x00\x00cpu")
    opcode = content.index(b"M", position)  # BININT2: the count of values of the first tensor
    (count,) = struct.unpack_from("<H", content, opcode + 1)
    assert count == 12 * 64
    forged = content[: opcode + 1] + struct.pack("<H", 60_000) + content[opcode + 3 :]
    assert "damaged" in refused(path, with_pickle(whole, forged))


def test_lists_that_hold_themselves_many_times(whole, path):
    """2^60 values in 1 kB, if one counts each path to them."""
    nested: list = [0]
    for _ in range(60):
        nested = [nested, nested]
    contents = contents_of(whole)
    contents["training"]["history"] = nested
    assert "again and again" in refused(path, saved(contents))
    recursive: list = []
    recursive += [recursive] * 1000
    contents["training"]["history"] = recursive
    assert "again and again" in refused(path, saved(contents))


def test_deep_nesting(whole, path):
    content = b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."
    refused(path, with_pickle(whole, content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["weights"].update({"weights.0": torch.zeros(12, 63)}), "weights do not have the shapes"),
        (
            lambda c: c["weights"].update({"weights.0": torch.zeros(12, 64, dtype=torch.int64)}),
            "weights do not have the shapes",
        ),
        (lambda c: c["weights"].pop("weights.1"), "weights do not have the shapes"),
        (lambda c: c["weights"].update({"more": torch.zeros(1)}), "weights do not have the shapes"),
        (lambda c: c["form"].update(shape=[1, 8, 9]), "weights do not have the shapes"),
        (lambda c: c["form"].update(shape=[1, 8]), "impossible form"),
        (lambda c: c["form"].update(shape=[1, 8, -8]), "impossible form"),
        (lambda c: c["form"].update(shape=[1, 8, 10**30]), "impossible form"),
        (lambda c: c["form"].update(kind="sounds"), "impossible form"),
        (lambda c: c["form"].update(scale="0.1"), "scale of its data is impossible"),
        (lambda c: c["form"].update(scale=float("nan")), "scale of its data is impossible"),
        (lambda c: c["form"].update(offset=torch.zeros(3)), "offset of its data is impossible"),
        (lambda c: c["form"].update(offset=torch.full((64,), float("inf"))), "offset of its data is impossible"),
        (lambda c: c["config"]["model"].update(hidden_sizes=[12, 6]), "weights do not have the shapes"),
        (lambda c: c["config"]["model"].update(hidden_sizes=[65536] * 64), "weights do not have the shapes"),
        (lambda c: c["config"]["training"].update(epochs=-1), "must be greater than or equal to 1"),
        (lambda c: c.update(config=[1]), ""),
        (lambda c: c.update(form=None), "wrong type"),
        (lambda c: c.update(weights=[1]), "wrong type"),
        (lambda c: c.update(training=3), "record of the training"),
        (lambda c: c["training"].pop("history"), "a part is missing"),
        (lambda c: c.update(run=5), "record of the training"),
    ],
)
def test_wrong_contents_with_the_right_checksum(change, message, whole, path):
    contents = contents_of(whole)
    change(contents)
    assert message in refused(path, signed(contents))


def state_of(whole: bytes) -> dict:
    return contents_of(whole)["training"]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(step=10**6),
        lambda s: s.update(step=-1),
        lambda s: s.update(epoch=7),
        lambda s: s.update(epoch="1"),
        lambda s: s.update(phase="layer 9"),
        lambda s: s.update(errors=torch.zeros(3)),
        lambda s: s.update(seconds=float("nan")),
        lambda s: s.pop("optimizer"),
        lambda s: s["optimizer"].update(first_moment=torch.zeros(1)),
        lambda s: s["history"][0].pop("best"),
        lambda s: s["history"][0].update(train_mse_per_pixel="0.1"),
        lambda s: s["history"][0].update(unknown=1),
        lambda s: s["history"].append(3),
    ],
)
def test_impossible_training_states(change, whole, trained):
    state = state_of(whole)
    change(state)
    trainer = Trainer(CONFIG, load_splits(CONFIG.data), Place(torch.device("cpu")))
    with pytest.raises(CheckpointError, match="its training state does not fit"):
        trainer.restore(trained.weights, state)


@pytest.mark.parametrize("command", [["eval"], ["reconstruct"], ["train", "--resume"]])
def test_the_command_line_says_one_line_and_exits_1(command, whole, tmp_path):
    path = tmp_path / "last.pt"
    path.write_bytes(with_pickle(whole, HARM_BY_HAND["global and reduce"]))
    result = CliRunner().invoke(app, [*command, str(path)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"error: {path}: refused: its pickle names 'posix mkdir'")


def test_config_of_a_checkpoint_is_validated_like_a_file(trained, path):
    contents = {"config": {"model": {"hidden_size": [3]}}}
    whole = io.BytesIO()
    trained.write(whole)
    message = refused(path, signed({**contents_of(whole.getvalue()), **contents}))
    assert "model.hidden_size: unknown key (did you mean hidden_sizes?)" in message
