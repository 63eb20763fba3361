"""The pictures drawn after a training: the loss curve and, for images, a few reconstructions."""

import logging

from tiedae_cli.config.shareable import last_part
from tiedae_cli.output import figures
from tiedae_cli.output.reconstructions import picture_title, reconstruct_images
from tiedae_cli.runs.observer import Observer, TrainingResult

log = logging.getLogger(__name__)


class TrainingPictures(Observer):
    """Draws ``loss.png`` and, for images, ``reconstructions.png`` in the run folder."""

    def finished(self, result: TrainingResult) -> None:
        """Draw the pictures.

        Raises:
            StorageError: a picture cannot be written.
        """
        start, components = result.start, result.components
        run, form, count = start.run, start.splits.form, components.components.shape[1]
        loss = figures.loss_curve(run.name, result.history, result.pca_mse_per_value, count, form.value_name)
        run.write(run.loss_figure, loss)
        drawn = [run.loss_figure]
        if form.kind == "images":
            shown = start.shown
            what = f"{last_part(start.splits.source)}, {start.shown_split} split, first {len(shown):,}"
            title = picture_title(run.name, start.model, what)
            answers = reconstruct_images(start.model, shown, components, title, start.device)
            run.write(run.reconstructions_figure, answers.png())
            drawn.append(run.reconstructions_figure)
        log.info(f"pictures: {', '.join(map(str, drawn))}")
