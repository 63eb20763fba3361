"""Figures as PNG files, drawn with matplotlib's object API, which needs no display and no global state."""

from tiedae_cli.model.pictures import as_pictures
from tiedae_cli.output.figures.curves import loss_curve
from tiedae_cli.output.figures.pairs import (
    all_pictures,
    check_pairs,
    contact_sheet,
    most_pictures,
    picture_grid,
    pixel_grid,
)
from tiedae_cli.output.figures.rows import Answers, answers_picture, fits_labels, items_in_rows, labelled_rows, short_error
from tiedae_cli.output.figures.series_curve import MOST_COLUMNS, Envelope, series_plot
from tiedae_cli.output.figures.weights import MOST_FEATURES, code_map, feature_grid, signed_pictures

__all__ = [
    "MOST_COLUMNS",
    "MOST_FEATURES",
    "Answers",
    "Envelope",
    "all_pictures",
    "answers_picture",
    "as_pictures",
    "check_pairs",
    "code_map",
    "contact_sheet",
    "feature_grid",
    "fits_labels",
    "items_in_rows",
    "labelled_rows",
    "loss_curve",
    "most_pictures",
    "picture_grid",
    "pixel_grid",
    "series_plot",
    "short_error",
    "signed_pictures",
]
