"""Small trained models on the bundled digits, and models of any form that nobody trained, for the tests of several commands."""

from dataclasses import replace
from pathlib import Path

import torch

from tiedae_cli.config import Config
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.model.autoencoder import build_autoencoder
from tiedae_cli.runs import checkpoint as checkpoints
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.observer import TrainingResult, TrainingStart
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.runs.training_state import EpochReport, TrainingState
from tiedae_cli.scoring.finished_model import finished_parts
from tiedae_cli.system.devices import Place
from tiedae_cli.system.random_streams import seeded
from tiedae_cli.training.trainer import Trainer

CPU = torch.device("cpu")


def train_small(folder: Path, epochs: int = 2, **model: object) -> Run:
    """Train on the digits for a moment and leave both checkpoints in a run folder; the first epoch counts as the best one."""
    folder.mkdir(parents=True)
    config = Config.model_validate({"model": {"hidden_sizes": [12, 3], **model}, "training": {"epochs": epochs, "seed": 1}})
    splits = load_splits(config.data)
    trainer, run = Trainer(config, splits, Place(CPU)), Run(folder)
    for report in trainer.train():
        if isinstance(report, EpochReport):
            checkpoint = Checkpoint(config, splits.form, trainer.model.state_dict(), trainer.state(), run.name)
            run.save(checkpoint, best=report.epoch == 1)
    history = tuple(trainer.history)
    start = TrainingStart(config, splits, run, trainer.model, CPU, (), None)
    parts = finished_parts(TrainingResult(start, history, history[0]), "finished")
    replace(checkpoints.load(run.best), finished=parts).save(run.best)
    return run


def untrained(form: ItemForm, run: str = "untrained", **model: object) -> Checkpoint:
    """Return a checkpoint of a model with random weights and biases that saw no data."""
    config = Config.model_validate({"model": {"hidden_sizes": [7, 4], **model}})
    network = build_autoencoder(form.shape, config.model, seeded(3))
    for bias in (*(one.encoder_bias for one in network.layers), *(one.decoder_bias for one in network.layers)):
        bias.data.uniform_(-0.5, 0.5, generator=seeded(4))
    weights = {name: weight.detach() for name, weight in network.state_dict().items()}
    return Checkpoint(config, form, weights, TrainingState(), run)
