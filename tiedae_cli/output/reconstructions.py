"""Items beside what PCA and the model make of them, as a picture.

Shapes: N items, D values per item.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.inference import reconstruct_items
from tiedae_cli.model.metrics import squares
from tiedae_cli.model.pca import PrincipalComponents
from tiedae_cli.output import figures
from tiedae_cli.output.figures import Answers

LONGEST_WAY = 60  # characters of a net's shapes in a title: the narrowest picture holds no more


@dataclass(frozen=True)
class Reconstruction:
    """Items and what became of them."""

    answers: list[Answers]
    """The originals, PCA's where it is known, the model's."""
    title: tuple[str, str]
    """Whose they are, and what they are."""
    squared_errors: list[float]
    """The model's for each item, summed over its values."""

    @property
    def images(self) -> int:
        """How many."""
        return len(self.squared_errors)

    def png(self) -> bytes:
        """Draw them."""
        if figures.fits_labels(self.images):
            return figures.answers_picture(self.answers, self.title)
        return figures.pixel_grid(self.answers[0].pictures, self.answers[-1].pictures)


def reconstruct_images(
    model: TiedAutoencoder,
    images: ItemSet,
    components: PrincipalComponents | None,
    title: tuple[str, str],
    device: torch.device,
) -> Reconstruction:
    """Return images, what PCA makes of them, and what the model does.

    Args:
        model: on the device.
        images: all of them are drawn.
        components: PCA; None leaves its row out.
        title: whose they are, and what they are.
        device: where to compute.
    """
    originals, reconstructions, errors = reconstruct_items(model, images, device)
    answers = [Answers("original", "", figures.as_pictures(originals.numpy(), images.form))]
    if components is not None and components.components.shape[1] < images.form.values_per_item:
        projected = components.reconstruct(originals)
        found = squares(projected - originals).sum(1).tolist()
        answers.append(_answers(f"PCA, {components.components.shape[1]} components", projected, found, images.form))
    answers.append(_answers("reconstruction", reconstructions, errors, images.form))
    return Reconstruction(answers, title, errors)


def _answers(name: str, rows: Tensor, errors: list[float], form: ItemForm) -> Answers:
    return Answers(
        name, f"mean {figures.short_error(sum(errors) / len(errors))}", figures.as_pictures(rows.numpy(), form), errors
    )


def pictured(run: str, model: TiedAutoencoder, what: str) -> tuple[str, str]:
    """Return the title of a picture: the run with its shape, and what is shown.

    Args:
        run: its name.
        model: its network.
        what: which images, for example "mnist, test split, the first 10".
    """
    way = model.round_trip if len(model.round_trip) <= LONGEST_WAY else f"{model.shapes} and back"
    return f"{run}: {way}", f"{what}; the numbers are squared errors"
