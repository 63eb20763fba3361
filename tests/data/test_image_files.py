"""Image files of any size and color, converted to what a model takes."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from log_capture import captured_log
from PIL import Image

from tiedae_cli.data.image_files import images_under, is_image_file, load_image_files, read_image
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.data.sources.folder import list_images
from tiedae_cli.errors import DataError

GRAY = ItemForm((1, 8, 8), scale=1 / 255)
RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def save(name: str, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(name, **options)
    return Path(name)


def load(path: Path, form: ItemForm = GRAY) -> tuple[np.ndarray, list[str]]:
    with captured_log() as said:
        images = load_image_files([path], form)
    assert len(images) == 1 and images.form.shape == form.shape and images.form.scale == 1 / 255
    return images.values[0], said


@pytest.mark.parametrize("suffix", ["png", "bmp", "pgm", "tif", "gif"])
def test_what_fits_is_taken_as_it_is(suffix: str) -> None:
    pixels, said = load(save(f"x.{suffix}", RAMP))
    np.testing.assert_array_equal(pixels[0], RAMP)
    assert said == [] or suffix == "gif"  # whose gray is a palette


def test_several_files_keep_their_order() -> None:
    paths = [save("b.png", RAMP), save("a.png", RAMP.T.copy())]
    images = load_image_files(paths, GRAY).values
    np.testing.assert_array_equal(images[0, 0], RAMP)
    np.testing.assert_array_equal(images[1, 0], RAMP.T)


def test_color_becomes_gray_and_says_so() -> None:
    """The weights of ITU-R 601: 0.299 red, 0.587 green, 0.114 blue."""
    color = np.zeros((8, 8, 3), dtype=np.uint8)
    color[..., 0], color[..., 1], color[..., 2] = 200, 100, 50
    pixels, said = load(save("x.png", color))
    np.testing.assert_allclose(pixels, 0.299 * 200 + 0.587 * 100 + 0.114 * 50, atol=1)
    assert said == ["x.png: 8x8 RGB, converted to 8x8 gray"]


def test_gray_becomes_color() -> None:
    pixels, said = load(save("x.png", RAMP), ItemForm((3, 8, 8), scale=1 / 255))
    np.testing.assert_array_equal(pixels, np.stack([RAMP] * 3))
    assert said == ["x.png: 8x8 L, converted to 8x8 color"]


def test_color_channels_come_first() -> None:
    color = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=-1)
    pixels, said = load(save("x.png", color), ItemForm((3, 8, 8), scale=1 / 255))
    np.testing.assert_array_equal(pixels, np.stack([RAMP, RAMP.T, 255 - RAMP]))
    assert said == []


def test_another_size_is_resized_and_says_so() -> None:
    halves = np.zeros((40, 16), dtype=np.uint8)  # 16 wide, 40 high: left black, right white
    halves[:, 8:] = 255
    pixels, said = load(save("x.png", halves))
    assert pixels.shape == (1, 8, 8)
    np.testing.assert_allclose(pixels[0, :, :3], 0, atol=8)
    np.testing.assert_allclose(pixels[0, :, 5:], 255, atol=8)
    assert said == ["x.png: 40x16 L, converted to 8x8 gray"]


def test_transparent_is_white() -> None:
    """As viewers show it."""
    black = np.zeros((8, 8, 4), dtype=np.uint8)
    black[:4, :, 3] = 255  # the upper half is opaque black, the lower half transparent
    pixels, _ = load(save("x.png", black))
    assert (pixels[0, :4] == 0).all() and (pixels[0, 4:] == 255).all()


def test_sixteen_bits_are_scaled_not_cut() -> None:
    pixels, _ = load(save("x.png", RAMP.astype(np.uint16) * 257))
    np.testing.assert_array_equal(pixels[0], RAMP)


def test_black_and_white() -> None:
    pixels, _ = load(save("x.png", RAMP > 100))
    np.testing.assert_array_equal(pixels[0], (RAMP > 100) * np.uint8(255))


def test_a_photo_is_turned_as_its_orientation_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to show
    pixels, _ = load(save("x.png", RAMP, exif=exif))
    np.testing.assert_array_equal(pixels[0], np.rot90(RAMP, -1))


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RAMP).save(buffer, "png")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(buffer.getvalue())))
    np.testing.assert_array_equal(read_image(Path("-"), (1, 8, 8))[0], RAMP)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "unknown format"),
        (b"not an image", "unknown format"),
        (b"\x89PNG\r\n\x1a\n", ""),
        (b"GIF89a\x08\x00\x08\x00", ""),
    ],
)
def test_what_is_no_image(content: bytes, reason: str) -> None:
    Path("x.png").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load(Path("x.png"))
    message = str(caught.value)
    assert message.startswith(f"x.png: not an image that can be decoded ({reason}") and "\n" not in message


def test_a_truncated_image() -> None:
    path = save("x.png", np.random.default_rng(1).integers(0, 256, (50, 50), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"x\.png: not an image that can be decoded \(.*truncated"):
        load(path)


def test_a_missing_file_and_a_folder(empty_folder: Path) -> None:
    with pytest.raises(DataError, match=r"x\.png: no such file"):
        load(Path("x.png"))
    Path("y.png").mkdir()
    with pytest.raises(DataError, match=r"y\.png: cannot be read: a folder, not a file"):
        load(Path("y.png"))


def test_an_image_that_would_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="exceeds limit"):
        load(save("x.png", np.zeros((40, 40), dtype=np.uint8)))


@pytest.mark.parametrize("form", [ItemForm((1, 1, 30), "vectors"), ItemForm((4, 8, 8))])
def test_a_model_that_takes_no_images(form: ItemForm) -> None:
    with pytest.raises(DataError, match="image files do not fit"):
        load(save("x.png", RAMP), form)


@pytest.mark.parametrize(
    ("name", "image"),
    [("x.png", True), ("a/X.JPG", True), ("-", False), ("runs/mnist", False), ("best.safetensors", False), ("png", False)],
)
def test_which_arguments_are_images(name: str, image: bool) -> None:
    assert is_image_file(name) is image


def test_training_and_encoding_see_the_same_images_in_the_same_order(tmp_path: Path) -> None:
    """Names whose order as text is not their order as paths, and a linked sub-folder."""
    folder, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    for name in ("a/1.png", "a-b/1.png", "a.b/1.png", "B/1.PNG", "a 1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(folder / name)
    elsewhere.mkdir()
    Image.new("L", (2, 2)).save(elsewhere / "1.png")
    (folder / "linked").symlink_to(elsewhere)
    names = list_images(folder).names
    assert names == sorted(names) and "linked/1.png" in names and len(names) == 6
    assert images_under(folder) == [folder / name for name in names]
