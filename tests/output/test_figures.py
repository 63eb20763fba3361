"""The PNG files: their sizes, and that grids show the exact pixels of their images."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.errors import InputError
from tiedae_cli.output.figures import (
    Answers,
    Envelope,
    answers_picture,
    as_pictures,
    check_pairs,
    labelled_rows,
    loss_curve,
    pixel_grid,
    series_plot,
)
from tiedae_cli.output.figures.canvas import resized
from tiedae_cli.output.figures.pairs import HEAT, heat
from tiedae_cli.runs.training_state import JOINT, EpochReport

GRAY, COLOR = ItemForm((1, 5, 4)), ItemForm((3, 5, 4))


def decode(png: bytes) -> np.ndarray:
    """Return the pixels, (H, W, 3) uint8."""
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def random_rows(count: int, form: ItemForm, seed: int) -> torch.Tensor:
    levels = torch.randint(0, 256, (count, form.values_per_item), generator=torch.Generator().manual_seed(seed))
    return levels.float() / 255


def grid_cells(canvas: np.ndarray, count: int, height: int, width: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Find the pairs in a grid by its layout: at most 10 columns for up to 100 images, then about square."""
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
        for large in (upper, lower):  # every pixel is a square of one color
            blocks = large.reshape(height, factor, width, factor, 3)
            assert (blocks == blocks[:, :1, :, :1]).all()
        pairs.append((upper[::factor, ::factor], lower[::factor, ::factor]))
    return pairs


def pairs_grid(count: int, form: ItemForm) -> np.ndarray:
    pictures = np.zeros((count, form.shape[1], form.shape[2]))
    return decode(pixel_grid(pictures, pictures))


@pytest.mark.slow
@pytest.mark.parametrize("form", [GRAY, COLOR], ids=["gray", "color"])
@pytest.mark.parametrize("count", [9, 23, 100, 101])
def test_a_grid_shows_the_exact_pixels_of_its_images(count: int, form: ItemForm) -> None:
    originals, reconstructions = random_rows(count, form, 1), random_rows(count, form, 2)
    canvas = decode(pixel_grid(as_pictures(originals.numpy(), form), as_pictures(reconstructions.numpy(), form)))
    for index, pair in enumerate(grid_cells(canvas, count, 5, 4)):
        for rows, found in zip((originals, reconstructions), pair, strict=True):
            expected = (rows[index].reshape(form.shape) * 255).round().byte().permute(1, 2, 0).expand(5, 4, 3)
            np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.parametrize(("count", "form"), [(1000, GRAY), (101, ItemForm((1, 28, 28)))])
def test_grids_stay_small_enough_to_open(count: int, form: ItemForm) -> None:
    canvas = pairs_grid(count, form)
    assert canvas.shape[1] <= 2100 and canvas.shape[0] <= 20_000


@pytest.mark.parametrize(
    ("count", "form"), [(101, ItemForm((1, 28, 28))), (10_000, ItemForm((1, 8, 8))), (700, ItemForm((1, 4, 16)))]
)
def test_a_large_grid_is_about_square(count: int, form: ItemForm) -> None:
    """Ten thousand pairs in twenty columns would be 500 rows high."""
    canvas = pairs_grid(count, form)
    assert 0.7 < canvas.shape[0] / canvas.shape[1] < 1.5 and canvas.shape[0] < 5000


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(28, 28), (900, 1200)])
def test_a_hundred_labelled_items_make_a_picture_small_enough_to_open(height: int, width: int) -> None:
    pictures = np.zeros((12, height, width), dtype=np.float32)
    canvas = decode(
        labelled_rows([Answers("original", "", pictures), Answers("x", "mean 1", pictures, [1.0] * 12)], ("a", "b"))
    )
    assert canvas.shape[1] < 3600 and canvas.shape[0] < 1400


def test_more_pairs_than_a_picture_holds_are_refused() -> None:
    check_pairs(10_000, ItemForm((1, 28, 28)))
    check_pairs(100, ItemForm((3, 4000, 3000)))
    with pytest.raises(InputError, match=r"^329 pairs of 224x224 color images are too many; one picture holds 327 of them"):
        check_pairs(329, ItemForm((3, 224, 224)))


def level(value: float, count: int, side: int = 28) -> np.ndarray:
    return np.full((count, side, side), value)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("answers", [2, 3])
def test_up_to_eight_items_have_the_layout_of_the_reference_figure(count: int, answers: int) -> None:
    """The page is 8 x 3n inches at 100 dpi: one row per item, with original, PCA and reconstruction."""
    shown = [Answers("a", "", level(0.2 * index, count), [1.0] * count if index else None) for index in range(answers)]
    canvas = decode(answers_picture(shown, ("a", "b")))
    assert canvas.shape == (300 * count, 800, 3)
    middles = [int(800 * (index + 0.5) / answers) for index in range(answers)]
    for row in range(count):
        y = 46 + int((300 * count - 58) / count * (row + 0.55))
        assert [canvas[y, x, 0] for x in middles] == [round(51 * index) for index in range(answers)]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("answers", [2, 3])
@pytest.mark.parametrize(("height", "width"), [(20, 50), (50, 20), (23, 37), (37, 23), (8, 32), (32, 8), (240, 640)])
def test_the_canvas_follows_the_images(count: int, answers: int, height: int, width: int) -> None:
    """Each picture is complete and in its own cell; pages of images that are not square have no more empty space."""

    def red(height: int, width: int) -> np.ndarray:
        """Return where the pictures are: only they are red."""
        pictures = np.zeros((count, height, width, 3))
        pictures[..., 0] = 1
        shown = [Answers("reconstruction", "", pictures, [1234.5] * count if index else None) for index in range(answers)]
        canvas = decode(answers_picture(shown, ("a run's name", "squared error of an image over it")))
        return np.asarray((canvas == [255, 0, 0]).all(2))

    def ranges(line: np.ndarray) -> np.ndarray:
        """Return the ranges of consecutive true values, (n, 2)."""
        return np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]]))).reshape(-1, 2)

    found = red(height, width)
    rows, columns = ranges(found.any(1)), ranges(found.any(0))
    large = resized(np.zeros((1, height, width)), 222, 222).shape[1:3]  # the room in the reference figure
    assert rows.shape == (count, 2) and columns.shape == (answers, 2)
    assert (rows[:, 1] - rows[:, 0] >= large[0]).all() and (columns[:, 1] - columns[:, 0] >= large[1]).all()
    assert (rows[1:, 0] - rows[:-1, 1] >= 18).all() and rows[0, 0] >= 46 + 16  # room for the captions between them
    strip = max(height, width) > 3 * min(height, width)  # names and numbers need more room than such images
    assert found.mean() > (0.12 if strip else 0.28 if height > width else 0.8 * red(30, 30).mean())


def test_more_than_eight_items_are_stacked_in_blocks_of_ten() -> None:
    """Original, PCA and reconstruction are stacked from top to bottom, ten items per block."""
    shown = [Answers(name, "", level(value, 11), None) for name, value in (("o", 0.2), ("p", 0.4), ("r", 0.6))]
    canvas = decode(answers_picture(shown, ("a", "b")))
    found = [int(value) for value in canvas[:, canvas.shape[1] - 60, 0] if value in (51, 102, 153)]
    assert [value for index, value in enumerate(found) if index == 0 or found[index - 1] != value] == [51, 102, 153]
    first = [int(value) for value in canvas[:, canvas.shape[1] - 10 * 88 + 20, 0] if value in (51, 102, 153)]
    assert [value for index, value in enumerate(first) if index == 0 or first[index - 1] != value] == [51, 102, 153] * 2


def test_errors_are_printed_under_images_if_they_fit() -> None:
    wide, narrow = np.zeros((9, 28, 28)), np.zeros((9, 96, 4))
    for pictures, more in ((wide, True), (narrow, False)):
        heights = [
            decode(labelled_rows([Answers("o", "", pictures), Answers("r", "", pictures, errors)], ("a", "b"))).shape[0]
            for errors in (None, [12.5] * 9)
        ]
        assert (heights[1] > heights[0]) is more


def test_images_of_twenty_pixels_and_more_are_sharp_and_smaller_ones_smooth() -> None:
    chance = np.random.default_rng(0)
    sharp = chance.integers(0, 256, (2, 28, 28)) / 255
    np.testing.assert_array_equal(
        resized(sharp, 96, 320), np.rint(sharp * 255).repeat(3, 1).repeat(3, 2)[..., None].repeat(3, 3)
    )
    step = np.zeros((1, 8, 8))
    step[:, :, 4:] = 1
    line = resized(step, 96, 320)[0, 40, :, 0].astype(int)
    assert len(line) == 96 and line[:24].max() == 0 and line[-24:].min() == 255
    assert (np.diff(line) >= -8).all() and len(set(line.tolist())) > 8  # a ramp; sharp squares would have one step


def test_large_images_are_shrunk_to_fit() -> None:
    assert resized(np.zeros((1, 400, 800, 3)), 96, 320).shape == (1, 160, 320, 3)


def test_pictures_are_not_flipped() -> None:
    """A white spot at the upper right, and its reconstruction with a spot at the lower left."""
    spots = np.zeros((2, 1, 28, 28))
    spots[0, 0, 0, 27], spots[1, 0, 27, 0] = 1.0, 1.0
    canvas = decode(answers_picture([Answers("", "", spots[0]), Answers("", "", spots[1], [1.0])], ("", "")))
    for half, corner in ((slice(0, 400), (0, -1)), (slice(400, 800), (-1, 0))):
        ys, xs = np.nonzero((canvas[46 + 16 :, half] == 0).all(2))
        picture = canvas[46 + 16 :, half][ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        side = len(picture) // 28
        inside = picture[side // 2 :: side][:28, side // 2 :: side][:, :28, 0]
        expected = np.zeros((28, 28))
        expected[corner] = 255
        np.testing.assert_array_equal(inside, expected)


def test_values_outside_zero_to_one_are_clamped() -> None:
    rows = torch.tensor([[-1.0, 0.0, 0.5, 2.0]])
    assert as_pictures(rows.numpy(), ItemForm((1, 2, 2))).tolist() == [[[0.0, 0.0], [0.5, 1.0]]]


def test_color_pictures_have_their_channels_last() -> None:
    rows = torch.arange(12.0)[None] / 12
    pictures = as_pictures(rows.numpy(), ItemForm((3, 2, 2)))
    assert pictures.shape == (1, 2, 2, 3)
    np.testing.assert_allclose(pictures[0, 0, 1], [1 / 12, 5 / 12, 9 / 12], rtol=1e-6)


def test_a_grid_never_shrinks_pixels() -> None:
    wide = np.zeros((9, 3, 500), dtype=np.float32)
    assert decode(pixel_grid(wide, wide)).shape[1] == 9 * 502 + 2


def report(epoch: int, train: float, validation: float | None) -> EpochReport:
    return EpochReport(JOINT, epoch, 40, train, validation, 1.0, 1000.0, 0.01, True)


@pytest.mark.slow
@pytest.mark.parametrize("pca_error", [None, 0.01])
@pytest.mark.parametrize("validation", [None, 0.02])
@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_the_loss_curve_shows_pca_if_its_error_is_known(epochs: int, validation: float | None, pca_error: float | None) -> None:
    history = [report(epoch, 0.05 / epoch, validation) for epoch in range(1, epochs + 1)]
    canvas = decode(loss_curve("run", history, pca_error, 16))
    assert canvas.shape == (450, 800, 3)
    orange = (np.abs(canvas.astype(int) - [0xC8, 0x50, 0x1E]).max(2) < 12).sum()
    assert bool(orange > 100) is (pca_error is not None)
    blue = (np.abs(canvas.astype(int) - [0x1F, 0x5F, 0xA8]).max(2) < 12).sum()
    assert bool(blue > 20) is (validation is not None)


def test_the_error_map_is_pale_at_no_error_and_dark_at_the_largest() -> None:
    errors = np.array([[[0.0, 1.0], [0.35, 0.7]], [[0.0, 0.0], [0.5, 0.25]]])
    found = heat(errors)
    assert found.shape == (2, 2, 2, 3)
    assert (found[0, 0, 0] == HEAT[0]).all() and (found[0, 0, 1] == HEAT[3]).all()
    assert (found[0, 1, 0] == HEAT[1]).all() and (found[0, 1, 1] == HEAT[2]).all()
    brightness = heat(np.linspace(0, 1, 50).reshape(1, 1, 50)).sum(-1).flatten()
    assert (np.diff(brightness) < 0).all()  # also in gray
    assert (heat(np.zeros((1, 2, 2))) == HEAT[0]).all()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 4])
def test_the_plot_of_a_series_colors_the_rows_above_the_threshold(width: int) -> None:
    count = 50
    top = np.zeros(count)
    top[20:25] = 2.0
    values = np.sin(np.arange(count))[:, None] * [1, 5]
    series = Envelope(count * width, width, values - (width > 1), values + (width > 1), top)
    unknown = replace(series, low=series.low * np.nan, high=series.high * np.nan)  # reconstructions
    with_limit, without = (decode(series_plot(series, unknown, ["a", "b"], limit, "x", "score")) for limit in (1.0, None))
    assert with_limit.shape == without.shape == (620, 1200, 3)
    red = with_limit[:, :, 0].astype(int) - with_limit[:, :, 2]
    shaded = np.flatnonzero((red > 30).sum(0) > 300)  # columns of the picture that are colored nearly from top to bottom
    axes = np.flatnonzero((without[300] < 250).any(1))
    left, right = axes.min(), 1190
    assert left + (right - left) * 0.38 < shaded.min() and shaded.max() < left + (right - left) * 0.52
    assert ((without[60:, :, 0].astype(int) - without[60:, :, 2]) < 30).all()  # below the legend
    nothing = series.top.copy()
    nothing[10:41] = np.nan  # rows 1010 to 1040: nothing is drawn there, no line across and no color
    gap = Envelope(count * width, width, values + nothing[:, None], values + nothing[:, None], nothing, 1000)
    picture = decode(series_plot(gap, unknown, ["a", "b"], None, "", "score"))[60:].astype(int)  # below the legend
    drawn = (np.flatnonzero(((picture[:, :, 2] - picture[:, :, 0]) > 60).any(0)) - left) / (right - left)
    assert drawn.min() < 0.02 and drawn.max() > 0.97 and not ((drawn > 0.205) & (drawn < 0.805)).any()
    missing = replace(gap, low=gap.low * np.nan, high=gap.high * np.nan)
    pairs = ((gap, missing), (missing, gap))
    drawings = [decode(series_plot(*pair, ["a", "b"], None, "", "score"))[60:].astype(int) for pair in pairs]
    amber = [np.flatnonzero(((each[:, :, 0] - each[:, :, 2]) > 100).any(0)) for each in drawings]
    assert not len(amber[0]) and amber[1].min() < left + 0.02 * (right - left) and amber[1].max() > left + 0.97 * (right - left)
    alone = Envelope(count, 1, np.empty((count, 0)), np.empty((count, 0)), top)
    assert decode(series_plot(alone, alone, [], 1.0, "x", "score")).shape == (340, 1200, 3)
