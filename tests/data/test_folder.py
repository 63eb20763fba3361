"""A folder of images as a data set: splits, labels, inference, the cache, and what is refused."""

import json
import multiprocessing
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from log_capture import captured_log
from PIL import Image
from typer.testing import CliRunner

import tiedae_cli
from tiedae_cli.cli.app import app
from tiedae_cli.config import DataConfig
from tiedae_cli.data.item_set import Splits
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import ConfigError, DataError, InputError, StorageError
from tiedae_cli.system.locks import LOCK_FILE


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(seed: int, height: int = 6, width: int = 5, color: bool = False) -> np.ndarray:
    shape = (height, width, 3) if color else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(path: str, pixels: np.ndarray) -> np.ndarray:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def load(**fields: object) -> tuple[Splits, list[str]]:
    with captured_log() as notes:
        return load_splits(DataConfig(dataset="pics", **fields)), notes


def cached() -> list[Path]:
    return sorted(Path("cache").rglob("*.npy"))


def rows_of(splits: Splits) -> list[bytes]:
    return [row.tobytes() for name in ("train", "validation", "test") for row in splits.get(name).raw(0, 10_000)]


def test_every_image_is_in_exactly_one_split_with_its_own_pixels_and_label() -> None:
    written = {}
    for index in range(40):
        label = index % 4
        written[write(f"pics/class{label}/{index:02}.png", picture(index)).tobytes()] = label
    splits, notes = load()
    assert [len(splits.get(name)) for name in ("train", "validation", "test")] == [32, 4, 4]
    assert sorted(rows_of(splits)) == sorted(written)
    for name in ("train", "validation", "test"):
        images = splits.get(name)
        assert images.labels is not None
        assert [written[row.tobytes()] for row in images.raw(0, 40)] == images.labels.tolist()
    assert splits.form.shape == (1, 6, 5)
    assert np.array_equal(splits.train.batch(0, 3), splits.train.raw(0, 3).astype(np.float32) * np.float32(1 / 255))
    assert notes[0].startswith("pics: 40 6x5 gray images (inferred; data.size and data.mode would choose); decoded once into")


def test_training_items_keep_the_order_of_the_paths_and_the_seed_chooses_the_split() -> None:
    pixels = [write(f"pics/{index:02}.png", picture(index)).tobytes() for index in range(30)]
    splits, _ = load(validation=5, test=0.2)
    assert [len(splits.get(name)) for name in ("train", "validation", "test")] == [19, 5, 6]
    places = [pixels.index(row.tobytes()) for row in splits.train.raw(0, 30)]
    assert places == sorted(places)
    assert splits.train.labels is None
    again, _ = load(validation=5, test=0.2)
    other, _ = load(validation=5, test=0.2, split_seed=1)
    assert rows_of(again) == rows_of(splits) != rows_of(other)


def test_split_folders_are_the_splits_and_a_missing_one_is_cut_from_train() -> None:
    for index in range(20):
        write(f"pics/train/{'ab'[index % 2]}/{index:02}.png", picture(index))
    test = [write(f"pics/test/{name}/x.png", picture(100 + place)).tobytes() for place, name in enumerate("ab")]
    splits, _ = load()
    assert [len(splits.get(name)) for name in ("train", "validation", "test")] == [18, 2, 2]
    assert [row.tobytes() for row in splits.test.raw(0, 9)] == test
    assert splits.test.labels is not None and splits.test.labels.tolist() == [0, 1]
    with pytest.raises(ConfigError, match=r"data\.test: pics has a test split of its own"):
        load(test=0.5)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["test/a.png"], "has a folder test, but none named train"),
        (["train/a.png", "vault/b.png"], r"1 images lie outside its split folders train, for example vault/b\.png"),
        (["train/a.png", "val/b.png", "valid/c.png"], "the folders val and valid are the same split"),
        (["empty/.a.png"], "no images in this folder"),
        ([".hidden/a.png"], "no images in this folder"),
    ],
)
def test_a_folder_that_cannot_be_understood_is_refused(files: list[str], message: str) -> None:
    for name in files:
        write(f"pics/{name}", picture(0))
    Path("pics/notes.txt").touch()
    with pytest.raises(DataError, match=message):
        load()


def test_one_color_image_makes_all_color_and_gray_ones_keep_their_values() -> None:
    gray = write("pics/a.png", picture(1))
    color = write("pics/b.png", picture(2, color=True))
    for index in range(4):
        write(f"pics/c{index}.png", picture(3))
    splits, _ = load(validation=0, test=0)
    assert splits.form.shape == (3, 6, 5)
    assert np.array_equal(splits.train.values[0], np.stack([gray] * 3))
    assert np.array_equal(splits.train.values[1], color.transpose(2, 0, 1))


def test_mode_and_size_are_obeyed_and_a_palette_image_counts_as_color_only_with_colors() -> None:
    write("pics/a.png", picture(2, color=True))
    Image.fromarray(picture(1)).convert("P").save("pics/b.png")
    splits, notes = load(validation=0, test=0, mode="gray", size=4)
    assert splits.form.shape == (1, 4, 4)
    assert "inferred" not in notes[0]
    expected = Image.open("pics/a.png").convert("L").resize((4, 4), Image.Resampling.LANCZOS)
    assert np.array_equal(splits.train.values[0, 0], np.asarray(expected))
    Path("pics/a.png").unlink()
    splits, _ = load(validation=0, test=0)
    assert splits.form.shape == (1, 6, 5)


def test_two_sizes_are_named_with_the_line_that_helps() -> None:
    write("pics/a.png", picture(1))
    write("pics/b.png", picture(2, 7, 9))
    with pytest.raises(DataError) as caught:
        load()
    assert "a.png is 6x5, b.png is 7x9" in str(caught.value)
    assert "Choose a small one for all: --set data.size=32" in str(caught.value)
    splits, _ = load(size=(6, 5), validation=0, test=0)
    assert splits.form.shape == (1, 6, 5) and len(splits.train) == 2


def test_bad_images_are_counted_and_named_and_nothing_is_kept() -> None:
    write("pics/0.png", picture(0))
    for index in range(1, 8):
        Path(f"pics/{index}.png").write_bytes(b"\x89PNG\r\n\x1a\n garbage")
    cut = Path("pics/0.png").read_bytes()
    Path("pics/8.png").write_bytes(cut[:60])
    with pytest.raises(DataError) as caught:
        load()
    lines = str(caught.value).splitlines()
    assert lines[0] == "pics: 8 of 9 images cannot be decoded:"
    assert lines[1].startswith("pics/1.png: not an image that can be decoded")
    assert lines[6] == "and 3 others"
    assert not cached()
    assert not [path for path in Path("cache").rglob("*") if path.is_file() and path.name != LOCK_FILE]


def test_the_cache_is_used_again_and_made_anew_when_a_file_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(10):
        write(f"pics/{index}.png", picture(index))
    _, notes = load()
    first = cached()
    assert len(first) == 1 and len(notes) == 1
    with monkeypatch.context() as patch:
        patch.setattr("tiedae_cli.data.sources.folder.decode_image", lambda path: pytest.fail("decoded again"))
        splits, notes = load()
    assert notes == [] and cached() == first
    changed = write("pics/3.png", picture(99))
    os.utime("pics/3.png", ns=(1, 1))
    splits, notes = load(validation=0, test=0)
    assert len(notes) == 1 and np.array_equal(splits.train.values[3, 0], changed)
    assert len(cached()) == 1 and cached() != first


def test_a_cache_that_was_cut_off_is_made_anew() -> None:
    pixels = [write(f"pics/{index}.png", picture(index)) for index in range(5)]
    load()
    os.truncate(cached()[0], 150)
    splits, _ = load(validation=0, test=0)
    assert np.array_equal(splits.train.values[:, 0], np.stack(pixels))


def _load_in_process(barrier: Any, results: Any) -> None:
    barrier.wait()
    with captured_log() as notes:
        splits = load_splits(DataConfig(dataset="pics", validation=0, test=0))
    built = sum("decoded once" in note for note in notes)
    results.put((built, int(splits.train.values.sum(dtype=np.int64))))


@pytest.mark.slow
def test_two_processes_at_once_build_one_cache() -> None:
    total = sum(int(write(f"pics/{index:03}.png", picture(index, 40, 40)).sum()) for index in range(150))
    context = multiprocessing.get_context("forkserver")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_load_in_process, args=(barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    found = sorted(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    assert found == [(0, total), (1, total)]
    assert len(cached()) == 1


@pytest.mark.slow
def test_the_cached_array_is_memory_mapped_and_shared_by_the_splits() -> None:
    for index in range(20):
        write(f"pics/{index:02}.png", picture(index, 128, 128))
    splits, _ = load()
    address = splits.train.values.ctypes.data
    assert {splits.get(name).values.ctypes.data for name in ("train", "validation", "test")} == {address}
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(cached()[0]) in line]
    assert any(int(line[0].split("-")[0], 16) <= address < int(line[0].split("-")[1], 16) for line in maps)


def test_no_room_and_no_permission_are_storage_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    write("pics/a.png", picture(0))
    with monkeypatch.context() as patch:
        patch.setattr("tiedae_cli.data.sources.folder.shutil.disk_usage", lambda place: SimpleNamespace(free=3))
        with pytest.raises(StorageError, match="XDG_CACHE_HOME"):
            load()
    Path("file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", "file")
    with pytest.raises(StorageError, match="cannot be created"):
        load()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "nowhere/pics"}, "no such file or folder"),
        ({"dataset": "mnits"}, r"no such data set \(did you mean mnist\?\)"),
        ({"dataset": "pics/a.png"}, "expected a folder of images, an array"),
        ({"dataset": "pics", "root": "there"}, r"data\.root: pics: is only for data sets that are downloaded"),
        ({"dataset": "digits", "validation": 3}, r"data\.validation: digits: cannot be chosen"),
        ({"dataset": "mnist", "size": 3, "test": 2}, r"data\.test: mnist: .*\ndata\.size: mnist: is only for a folder"),
        ({"dataset": "pics"}, "has 1 item; with 1 for test and 1 for validation none is left for training"),
    ],
)
def test_what_does_not_go_together_is_refused(fields: dict[str, object], message: str) -> None:
    write("pics/a.png", picture(0))
    with pytest.raises(InputError, match=message):
        load_splits(DataConfig(**fields))


@pytest.mark.slow
def test_color_images_go_through_train_eval_and_reconstruct() -> None:
    for index in range(60):
        write(f"pics/{index % 3}/{index:02}.png", picture(index % 6, 8, 8, color=True))
    runner = CliRunner()
    settings = ["data.dataset=pics", "training.epochs=2", "training.batch_size=16", "model.hidden_sizes=[8, 3]", "data.test=20"]
    arguments = ["train", "--config", "digits", "--run-dir", "run"]
    result = runner.invoke(app, arguments + [word for setting in settings for word in ("--set", setting)])
    assert result.exit_code == 0, result.stderr
    assert "on 34 8x8 color images of pics" in result.stderr
    result = runner.invoke(app, ["eval", "run", "--json"])
    values = json.loads(result.stdout)
    assert values["items"] == 20
    assert values["squared_error_per_item"] == pytest.approx(192 * values["mse_per_value"])
    result = runner.invoke(app, ["reconstruct", "run", "pics/0/00.png", "-o", "out.png"])
    assert result.exit_code == 0, result.stderr
    figure = np.asarray(Image.open("out.png").convert("RGB")).astype(int)
    colors = {tuple(color) for color in picture(0, 8, 8, color=True).reshape(-1, 3)}
    assert colors <= {tuple(color) for color in figure.reshape(-1, 3)}  # the original is drawn in its own colors


def test_a_bad_image_stops_train_before_a_run_folder_is_made() -> None:
    write("pics/a.png", picture(0))
    Path("pics/b.jpg").write_bytes(b"no image")
    result = CliRunner().invoke(app, ["train", "--set", "data.dataset=pics"])
    assert result.exit_code == 2
    assert "pics/b.jpg: not an image that can be decoded (unknown format)" in result.stderr
    assert not Path("runs").exists()


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Train", "VALID", "Testing"), ("training", "validation", "TEST")])
def test_split_folders_of_any_name_and_case(names: tuple[str, str, str]) -> None:
    for split, name in enumerate(names):
        for index in range(3 - split):
            write(f"pics/{name}/{index}.png", picture(10 * split + index))
    splits, _ = load()
    assert [len(splits.get(name)) for name in ("train", "validation", "test")] == [3, 2, 1]


def test_files_are_chosen_by_globs_and_junk_is_counted() -> None:
    for index in range(4):
        write(f"pics/a/{index}.png", picture(index))
        write(f"pics/a/{index}_mask.png", picture(20 + index))
    for name in ("Thumbs.db", "README", ".DS_Store"):
        Path("pics", name).touch()
    splits, notes = load(validation=0, test=0)
    assert len(splits.train) == 8 and "; skipped: 1 .db, 1 without a suffix;" in notes[-1]
    assert notes[0].startswith("pics: 4 files *_mask.* stand beside images of the same names: are they masks?")
    for fields in ({"exclude": "*_mask*"}, {"include": ["?.png"]}, {"include": "a/?.png"}):
        splits, notes = load(validation=0, test=0, **fields)
        assert len(splits.train) == 4 and not any("masks?" in note for note in notes)
        assert np.array_equal(splits.train.values[3, 0], picture(3))


def test_masks_of_another_suffix_are_named() -> None:
    for index in range(3):
        write(f"pics/{index}.jpg", picture(index))
        write(f"pics/{index}.png", picture(20 + index))
    _, notes = load(validation=0, test=0)
    assert notes[0] == (
        "pics: 3 *.png files have the names of *.jpg files: are they masks? --set 'data.exclude=*.png' skips them"
    )


@pytest.mark.parametrize(("largest", "white"), [(255, 255), (1000, 1023), (4095, 4095), (16_000, 16_383), (65_535, 65_535)])
def test_images_of_more_than_8_bits_are_scaled_by_the_bits_in_use(largest: int, white: int) -> None:
    levels = np.linspace(0, largest, 30).astype(np.uint16).reshape(5, 6)
    write("pics/a.png", levels)
    write("pics/b.png", levels // 2)
    splits, notes = load(validation=0, test=0)
    expected = (levels.astype(float) * 255 / white).astype(np.uint8)
    assert np.array_equal(splits.train.values[0, 0], expected)
    assert any(f"{white:,} is white" in note for note in notes) == (white > 255)
    given, _ = load(validation=0, test=0, range=[0, largest])
    assert given.train.values[0].max() == 255


def test_an_image_of_more_bits_behind_plain_ones_sets_the_range_of_all() -> None:
    """The plain ones come first, so their values are already decoded when the first of more bits is met; colors come last."""
    plain, wide, color = picture(1), picture(2).astype(np.uint16) * 16, picture(3, color=True)
    for index in range(40):  # more than a thread decodes at once
        write(f"pics/a{index:02}.png", plain)
    write("pics/b.png", wide)
    write("pics/c.png", wide // 2)
    write("pics/d.png", color)
    splits, _ = load(validation=1, test=1)
    assert splits.form.shape == (3, 6, 5)
    found = rows_of(splits)
    for pixels in (plain, np.floor(wide * (255 / 4095)).astype(np.uint8), np.floor(wide // 2 * (255 / 4095)).astype(np.uint8)):
        assert np.stack([pixels] * 3).tobytes() in found
    assert np.ascontiguousarray(color.transpose(2, 0, 1)).tobytes() in found


def test_each_image_file_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Except the first one, which shows the form of all."""
    import tiedae_cli.data.image_files as image_files

    names = [f"{index:02}.png" for index in range(40)]
    for index, name in enumerate(names):
        write(f"pics/{name}", picture(index))
    opened: list[str] = []
    monkeypatch.setattr(image_files, "open_regular", lambda path: opened.append(path.name) or open(path, "rb"))
    load(validation=4, test=4)
    assert sorted(opened) == sorted([names[0], *names])


@pytest.mark.slow
def test_wide_arrays_are_scaled_by_the_bits_in_use_and_their_range_lives_in_the_checkpoint() -> None:
    x = np.random.default_rng(0).integers(0, 4096, (40, 5, 4)).astype(np.uint16)
    x[0, 0, 0] = 4095
    np.save("x.npy", x)
    with captured_log() as notes:
        run = tiedae_cli.train({"data": {"dataset": "x.npy"}}, run_dir="run", epochs=1, hidden_sizes=[3], quiet=True)
    assert any(note.startswith("x.npy: uint16 images up to 4,095: 4,095 is white") for note in notes)
    model = tiedae_cli.load(run)
    np.testing.assert_allclose(model.encode(x[:9] // 4), model.encode(x[:9] // 4 / 4095), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_floats_of_another_range_are_converted_where_it_is_given() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (40, 5, 4)).astype(np.float32)
    np.save("x.npy", x)
    config = {"data": {"dataset": "x.npy", "range": [-1, 1], "validation": 0, "test": 0}}
    splits = load_splits(DataConfig.model_validate(config["data"]))
    np.testing.assert_allclose(splits.train.raw(0, 99), (x.reshape(40, -1) + 1) / 2, atol=1e-6)
    run = tiedae_cli.train(config, run_dir="run", epochs=1, hidden_sizes=[3], quiet=True)
    model = tiedae_cli.load(run)
    assert model.encode(x).shape == (40, 3)
    with pytest.raises(DataError, match=r"row 1 holds 3, outside of data\.range, -1 to 1"):
        model.encode(np.full_like(x, 3))
