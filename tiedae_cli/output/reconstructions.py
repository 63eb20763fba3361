"""Pictures of items beside their reconstructions by PCA and by the model.

Shapes: N items, D values per item.
"""

import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.inference import reconstruct_items
from tiedae_cli.model.metrics import squares
from tiedae_cli.model.pca import PrincipalComponents
from tiedae_cli.output import figures
from tiedae_cli.output.figures import Answers
from tiedae_cli.output.reconstruction_picture import Reconstruction

LONGEST_SHAPES = 60  # characters of a network's shapes in a title: the narrowest picture has room for no more


def reconstruct_images(
    model: TiedAutoencoder,
    images: ItemSet,
    components: PrincipalComponents | None,
    title: tuple[str, str],
    device: torch.device,
) -> Reconstruction:
    """Reconstruct images with the model and with PCA.

    Args:
        model: on ``device``.
        images: the images to reconstruct; all are drawn.
        components: PCA; None to draw the model alone.
        title: two lines: the run with its shape, and what is shown.
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


def picture_title(run: str, model: TiedAutoencoder, what: str) -> tuple[str, str]:
    """Return the two lines over a picture: the run with its shape, and what is shown.

    Args:
        run: name of the run.
        model: its network.
        what: which images, for example "mnist, test split, first 10".
    """
    shapes = model.round_trip if len(model.round_trip) <= LONGEST_SHAPES else f"{model.shapes} and back"
    return f"{run}: {shapes}", f"{what}; numbers: squared error per image"
