"""The ``reconstruct`` command: a picture of items beside their reconstructions."""

from collections.abc import Sequence

from tiedae_cli.config.shareable import last_part
from tiedae_cli.data.image_files import expand_folders, load_image_files
from tiedae_cli.data.item_set import choose
from tiedae_cli.output import figures
from tiedae_cli.output.reconstruction_picture import Reconstruction
from tiedae_cli.output.reconstructions import picture_title, reconstruct_images
from tiedae_cli.runs.trained_run import OpenRun


def reconstruct(run: OpenRun, files: Sequence[str], split: str, count: int, seed: int | None) -> Reconstruction:
    """Reconstruct the images in files, or some of a split if there are no files.

    Args:
        run: the model.
        files: image files or folders of images.
        split: train, validation or test.
        count: number of images from the split.
        seed: seed of a random choice; None takes the first images.

    Raises:
        InputError: the model's items are not images, or there are more than one picture holds.
        DataError: the images or the data cannot be read.
    """
    run.refuse_vectors(
        f"reconstruct needs an image model; {run.path} takes {run.form.describe()}; for its errors: tiedae eval {run.path}"
    )
    if files:
        images, components = load_image_files(expand_folders(files), run.form), run.kept_components()
        what = last_part(files[0]) if len(files) == 1 else f"{len(images):,} images"
    else:
        images, components = choose(run.split(split), count, seed), run.components()
        chosen = f"{len(images):,} images" + ("" if seed is None else f" chosen with seed {seed}")
        what = f"{last_part(run.splits.source)}, {split} split, {chosen}"
    figures.check_pairs(len(images), run.form)
    title = picture_title(run.trained.run, run.network, what)
    return reconstruct_images(run.network, images, components, title, run.device)
