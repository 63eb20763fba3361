"""Greedy layer-wise pretraining: each layer alone on the activations of those below, then all layers together.

(Hinton & Salakhutdinov 2006; Bengio et al. 2007, "Greedy layer-wise training of deep networks", with autoencoders as layers.)
"""

import copy
from dataclasses import dataclass

import torch

from tiedae_cli.config import TrainingConfig
from tiedae_cli.data.item_set import ItemForm, ItemSet, Splits
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.inference import batch_size
from tiedae_cli.model.item_batches import as_seen
from tiedae_cli.runs.training_state import JOINT
from tiedae_cli.training.training_set import TrainingSet, shared_set, training_set


@dataclass(frozen=True)
class Phase:
    """One training of one model on one set."""

    name: str
    """``joint``, or ``layer 1``, ``layer 2`` ..."""
    model: TiedAutoencoder
    train: TrainingSet
    validation: TrainingSet
    training: TrainingConfig
    """Training config of this phase."""


class Phases:
    """The phases of a training, created one by one because each needs the trained layers of the previous ones.

    Args:
        model: the whole model, on the device; finished phases are merged into it.
        splits: the data.
        training: the config; with ``pretraining_epochs`` 0 there is only the joint phase.
        device: device that computes and holds activations.
    """

    def __init__(self, model: TiedAutoencoder, splits: Splits, training: TrainingConfig, device: torch.device) -> None:
        self.model = model
        self.splits = splits
        self.training = training
        self.device = device
        layers = [f"layer {number + 1}" for number in range(len(model.layers))] if training.pretraining_epochs else []
        self.names = [*layers, JOINT]

    def first(self) -> Phase:
        """Return the first phase."""
        return self.named(self.names[0])

    def after(self, phase: Phase) -> Phase | None:
        """Merge a finished phase into the whole model and return the next one, None after the last."""
        self.merge(phase)
        position = self.names.index(phase.name) + 1
        return self.named(self.names[position]) if position < len(self.names) else None

    def named(self, name: str) -> Phase:
        """Return a phase, starting from the whole model's weights; compute the activations that it needs."""
        if name == JOINT:
            train, validation = (training_set(items, self.device) for items in (self.splits.train, self.splits.validation))
            return Phase(JOINT, self.model, train, validation, self.training)
        layer = self.names.index(name)
        train, validation = (self._activations(items, layer) for items in (self.splits.train, self.splits.validation))
        return Phase(name, self._single_layer(layer), train, validation, self._layer_training(layer))

    def merge(self, phase: Phase) -> None:
        """Copy a pretrained layer into the whole model."""
        if phase.name != JOINT:
            self._copy_into_whole(phase.model, self.names.index(phase.name))

    def _single_layer(self, layer: int) -> TiedAutoencoder:
        """Return a copy of layer ``layer`` as an autoencoder."""
        whole = self.model
        top_k = whole.code_top_k if layer == len(whole.layers) - 1 else None
        return TiedAutoencoder([copy.deepcopy(whole.layers[layer])], top_k).to(self.device)

    @torch.no_grad()
    def _copy_into_whole(self, single: TiedAutoencoder, layer: int) -> None:
        for own, merged in zip(single.layers[0].parameters(), self.model.layers[layer].parameters(), strict=True):
            merged.copy_(own)

    def _layer_training(self, layer: int) -> TrainingConfig:
        update: dict[str, object] = {"epochs": self.training.pretraining_epochs, "early_stopping": None}
        if layer:  # activations are not pixels: no cross-entropy, shifts or flips; each layer has an order of its own
            update |= {
                "shift": 0,
                "flip": False,
                "cross_entropy_weight": 0.0,
                "loss": "squared_error" if self.training.loss == "cross_entropy" else self.training.loss,
            }
        if layer < len(self.model.layers) - 1:
            update["sparsity"] = "none"
        update["seed"] = (self.training.seed + layer + 1) % 2**32
        return self.training.model_copy(update=update)

    @torch.inference_mode()
    def _activations(self, items: ItemSet, layer: int) -> TrainingSet:
        """Return the outputs of encoder layer ``layer``, (N, H) float32; the items themselves for the first."""
        if layer == 0:
            return training_set(items, self.device)
        width, size = self.model.sizes[layer], batch_size(items)
        read = items if items.share is None else items.in_memory()
        outputs = torch.empty(len(read), width, device=self.device)
        for start in range(0, len(read), size):
            x = as_seen(read, start, start + size, self.device)  # (B, D)
            outputs[start : start + size] = self.model.encode_layers(x, layer)
        form = ItemForm((1, 1, width), kind="vectors")
        if items.share is not None:
            return shared_set(outputs.clone(), form, self.device, items)
        return TrainingSet(outputs.clone(), form, self.device)
