"""What a notebook shows: pictures, figures and the report page, without JavaScript unless the page is asked for."""

import base64
import io
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiedae_cli.output.figures.canvas import DPI, figure_png, new_figure
from tiedae_cli.system.storage import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Page(str):
    """A report page as HTML text."""

    __slots__ = ()

    def save(self, path: Any) -> Path:
        """Write the page to a file, and return its path.

        Raises:
            StorageError: it cannot be written.
        """
        with replacing(Path(path)) as file:
            file.write(self.encode())
        return Path(path)

    def __repr__(self) -> str:
        return f"Page of {len(self):,} characters; save(path) writes it"

    def _repr_html_(self) -> str:
        """Return the page in a frame of its own."""
        return f'<iframe srcdoc="{escape(str(self))}" width="100%" height="700" style="border:0"></iframe>'


def inline_picture(png: bytes) -> str:
    """Return a PNG as an HTML image that needs no file."""
    return f'<img alt="" style="max-width:100%" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def figure_of_png(png: bytes) -> "Figure":
    """Return a PNG as a matplotlib figure of the same size, pixel by pixel."""
    import numpy as np
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))  # (H, W, 3)
    figure = new_figure((pixels.shape[1] + 1e-3) / DPI, (pixels.shape[0] + 1e-3) / DPI)
    figure.figimage(pixels, origin="upper")
    return shows_itself(figure)


def shows_itself(figure: "Figure") -> "Figure":
    """Return a figure that notebooks show as a PNG although no display is behind it."""
    figure._repr_png_ = lambda: figure_png(figure)  # type: ignore[attr-defined]
    return figure
