"""Items beside their reconstructions, ready to draw; without torch, because exported files are drawn too."""

from dataclasses import dataclass

from tiedae_cli.output import figures
from tiedae_cli.output.figures import Answers


@dataclass(frozen=True)
class Reconstruction:
    """Items and their reconstructions."""

    answers: list[Answers]
    """The originals, PCA's reconstructions (if there are any), the model's."""
    title: tuple[str, str]
    """Two lines: the run with its shape, and what is shown."""
    squared_errors: list[float]
    """Squared error of the model's reconstruction of each item, summed over its values."""

    @property
    def items(self) -> int:
        """The number of items."""
        return len(self.squared_errors)

    def png(self) -> bytes:
        """Draw the items over or beside their reconstructions; return the PNG."""
        if figures.fits_labels(self.items):
            return figures.answers_picture(self.answers, self.title)
        return figures.pixel_grid(self.answers[0].pictures, self.answers[-1].pictures)
