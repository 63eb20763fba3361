"""The PNG files: their sizes, and that the grid's pixels are the images' own, each over its partner."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from tiedae_cli.data.image_set import DataForm
from tiedae_cli.errors import InputError
from tiedae_cli.output.figures import as_pictures, check_pairs, loss_curve, pixel_grid, reconstruction_pairs
from tiedae_cli.runs.state import JOINT, EpochReport

GRAY, COLOUR = DataForm((1, 5, 4)), DataForm((3, 5, 4))


def decode(png: bytes) -> np.ndarray:
    """Return the pixels, (H, W, 3) uint8."""
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def random_rows(count: int, form: DataForm, seed: int) -> torch.Tensor:
    levels = torch.randint(0, 256, (count, form.pixels), generator=torch.Generator().manual_seed(seed))
    return levels.float() / 255


def grid_cells(canvas: np.ndarray, count: int, height: int, width: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Find the pairs in a grid by its layout: columns of at most 10 up to 100 images, then as many as make it about square."""
    columns = min(count, 10) if count <= 100 else math.ceil(math.sqrt(count * 2 * height / width))
    rows = -(-count // columns)
    factor = next(
        f
        for f in range(96, 0, -1)
        if canvas.shape[:2]
        == (rows * (2 * height * f + 3 * max(2, f)) + max(2, f), columns * (width * f + max(2, f)) + max(2, f))
    )
    gap = max(2, factor)
    pairs = []
    for index in range(count):
        top = gap + index // columns * (2 * height * factor + 3 * gap)
        left = gap + index % columns * (width * factor + gap)
        bottom = top + height * factor + gap // 2
        upper, lower = (canvas[y : y + height * factor, left : left + width * factor] for y in (top, bottom))
        for large in (upper, lower):  # every pixel is a square of one colour
            blocks = large.reshape(height, factor, width, factor, 3)
            assert (blocks == blocks[:, :1, :, :1]).all()
        pairs.append((upper[::factor, ::factor], lower[::factor, ::factor]))
    return pairs


@pytest.mark.parametrize("form", [GRAY, COLOUR], ids=["gray", "colour"])
@pytest.mark.parametrize("count", [9, 23, 100, 101])
def test_the_grids_pixels_are_the_images_own(count: int, form: DataForm) -> None:
    originals, reconstructions = random_rows(count, form, 1), random_rows(count, form, 2)
    canvas = decode(reconstruction_pairs(originals, reconstructions, [0.0] * count, form))
    for index, pair in enumerate(grid_cells(canvas, count, 5, 4)):
        for rows, found in zip((originals, reconstructions), pair, strict=True):
            expected = (rows[index].reshape(form.shape) * 255).round().byte().permute(1, 2, 0).expand(5, 4, 3)
            np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.parametrize(("count", "form"), [(100, DataForm((1, 28, 28))), (1000, GRAY), (9, DataForm((3, 200, 200)))])
def test_a_grid_is_of_a_size_that_can_be_opened(count: int, form: DataForm) -> None:
    canvas = decode(reconstruction_pairs(torch.zeros(count, form.pixels), torch.zeros(count, form.pixels), [], form))
    assert canvas.shape[1] <= 2100 and canvas.shape[0] <= 20_000


@pytest.mark.parametrize(
    ("count", "form"), [(101, DataForm((1, 28, 28))), (10_000, DataForm((1, 8, 8))), (700, DataForm((1, 4, 16)))]
)
def test_a_large_grid_is_about_square(count: int, form: DataForm) -> None:
    """Ten thousand pairs in twenty columns would be 500 rows high."""
    canvas = decode(reconstruction_pairs(torch.zeros(count, form.pixels), torch.zeros(count, form.pixels), [], form))
    assert 0.7 < canvas.shape[0] / canvas.shape[1] < 1.5 and canvas.shape[0] < 5000


def test_more_pairs_than_a_picture_holds_are_refused() -> None:
    check_pairs(10_000, DataForm((1, 28, 28)))
    check_pairs(100, DataForm((3, 4000, 3000)))
    with pytest.raises(InputError, match=r"^329 pairs of 224x224 colour images: one picture holds 327 of them"):
        check_pairs(329, DataForm((3, 224, 224)))


@pytest.mark.parametrize("count", [1, 2, 8])
def test_up_to_eight_pairs_are_the_references_figure(count: int) -> None:
    """8 x 3n inches at 100 dots."""
    rows = random_rows(count, GRAY, 1)
    assert decode(reconstruction_pairs(rows, rows, [0.5] * count, GRAY)).shape == (300 * count, 800, 3)


def test_originals_left_reconstructions_right() -> None:
    """Two pairs of plain levels: black and dark in the first row, bright and white in the second."""
    levels = torch.tensor([0.0, 0.8]), torch.tensor([0.2, 1.0])
    originals, reconstructions = (level[:, None].expand(2, 64).contiguous() for level in levels)
    canvas = decode(reconstruction_pairs(originals, reconstructions, [1.0, 2.0], DataForm((1, 8, 8))))
    middles = [[canvas[y, x].tolist() for x in (200, 600)] for y in (170, 470)]
    for found, expected in zip(middles, [[0, 51], [204, 255]], strict=True):
        assert [pixel[0] for pixel in found] == pytest.approx(expected, abs=1)
        assert all(len(set(pixel)) == 1 for pixel in found)


def test_the_pairs_show_whole_pixels_the_right_way_up() -> None:
    """A white spot at the upper right on black, and its reconstruction with a spot at the lower left."""
    spots = torch.zeros(2, 8, 8)
    spots[0, 0, 7], spots[1, 7, 0] = 1.0, 1.0
    canvas = decode(reconstruction_pairs(spots[:1].reshape(1, 64), spots[1:].reshape(1, 64), [2.0], DataForm((1, 8, 8))))
    black = (canvas == 0).all(2)
    for half, corner in ((slice(0, 400), (0, -1)), (slice(400, 800), (-1, 0))):
        ys, xs = np.nonzero(black[:, half])
        picture = canvas[ys.min() : ys.max() + 1, half][:, xs.min() : xs.max() + 1]
        side = len(picture) // 8
        inside = picture[side // 2 :: side][:8, side // 2 :: side][:, :8, 0]
        expected = np.zeros((8, 8))
        expected[corner] = 255
        np.testing.assert_array_equal(inside, expected)


def test_values_outside_are_clamped() -> None:
    rows = torch.tensor([[-1.0, 0.0, 0.5, 2.0]])
    assert as_pictures(rows, DataForm((1, 2, 2))).tolist() == [[[0.0, 0.0], [0.5, 1.0]]]


def test_colour_pictures_have_their_channels_last() -> None:
    rows = torch.arange(12.0)[None] / 12
    pictures = as_pictures(rows, DataForm((3, 2, 2)))
    assert pictures.shape == (1, 2, 2, 3)
    np.testing.assert_allclose(pictures[0, 0, 1], [1 / 12, 5 / 12, 9 / 12], rtol=1e-6)


def test_a_grid_never_shrinks_pixels() -> None:
    wide = np.zeros((9, 3, 500), dtype=np.float32)
    assert decode(pixel_grid(wide, wide)).shape[1] == 9 * 502 + 2


def report(epoch: int, train: float, validation: float | None) -> EpochReport:
    return EpochReport(JOINT, epoch, 40, train, validation, 1.0, 1000.0, 0.01, True)


@pytest.mark.parametrize("yardstick", [None, 0.01])
@pytest.mark.parametrize("validation", [None, 0.02])
@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_the_loss_curve(epochs: int, validation: float | None, yardstick: float | None) -> None:
    history = [report(epoch, 0.05 / epoch, validation) for epoch in range(1, epochs + 1)]
    canvas = decode(loss_curve(history, yardstick, 16))
    assert canvas.shape == (450, 800, 3)
    orange = (np.abs(canvas.astype(int) - [0xC8, 0x50, 0x1E]).max(2) < 12).sum()
    assert bool(orange > 100) is (yardstick is not None)
    blue = (np.abs(canvas.astype(int) - [0x1F, 0x5F, 0xA8]).max(2) < 12).sum()
    assert bool(blue > 20) is (validation is not None)
