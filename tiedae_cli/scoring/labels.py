"""How well scores separate anomalous from normal items, by their labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tiedae_cli.data.sources.cells import is_unlabelled, label_text
from tiedae_cli.scoring.detection_metrics import auroc, average_precision, precision_at_n

OUTLIER_LABELS = ({"0"}, {"0", "1"}, {"1"})  # without ``data.normal``, 1 is an outlier, as in the field's benchmarks


@dataclass
class Labelled:
    """The scores of labelled items.

    Args:
        normal: labels of normal items, from ``data.normal``; if empty, 1 is an outlier among 0 and 1.
    """

    normal: Sequence[str]
    labels: list[str] = field(default_factory=list)
    """Their texts, of the items that have one."""
    scores: list[Tensor] = field(default_factory=list)
    unlabelled: int = 0
    """Unlabelled items."""

    def add(self, labels: Sequence[str] | None, scores: Tensor) -> None:
        """Note the items of a block."""
        if labels is None:
            return
        texts, normal = list(map(label_text, labels)), self._normal
        kept = [index for index, text in enumerate(texts) if not is_unlabelled(text, normal)]
        self.unlabelled += len(texts) - len(kept)
        self.labels += [texts[index] for index in kept]
        self.scores.append(scores[kept])

    @property
    def _normal(self) -> set[str]:
        return set(map(label_text, self.normal)) or {"0"}

    def why_not(self) -> str | None:
        """Return why these labels judge nothing; None where they do."""
        found = set(self.labels)
        if not found:
            return None
        if not self.normal and found not in OUTLIER_LABELS:
            known = ", ".join(sorted(found)[:6])
            return f"the labels ({known}) do not say which items are normal: train with --set 'data.normal=[LABEL, ...]'"
        anomalous = sum(self._anomalous())
        if anomalous in (0, len(self.labels)):
            kind = "normal" if anomalous == 0 else "anomalous"
            return f"all {len(self.labels):,} labelled items are {kind}; AUROC needs normal and anomalous items"
        return None

    def _anomalous(self) -> list[bool]:
        normal = self._normal
        return [label not in normal for label in self.labels]

    def values(self, limit: float | None) -> dict[str, Any]:
        """Return the measures as the JSON interface names them; to be called where ``why_not`` is None and there are labels."""
        scores, anomalous = torch.cat(self.scores), torch.tensor(self._anomalous())
        return separation(scores[~anomalous], scores[anomalous], limit)


def separation(normal: Tensor, anomalous: Tensor, limit: float | None) -> dict[str, Any]:
    """Return how well scores separate anomalous items, (M,), from normal ones, (N,), as the JSON interface names it."""
    values = {
        "auroc": auroc(normal, anomalous),
        "average_precision": average_precision(normal, anomalous),
        "precision_at_n": precision_at_n(normal, anomalous),
    }
    if limit is None:
        return values
    found, alarms = int((anomalous > limit).sum()), int((normal > limit).sum())
    return {
        **values,
        "threshold": limit,
        "true_positives": found,
        "false_positives": alarms,
        "false_negatives": len(anomalous) - found,
        "true_negatives": len(normal) - alarms,
        "false_alarm_rate": alarms / len(normal),
        "detection_rate": found / len(anomalous),
    }


def described(values: dict[str, Any]) -> str:
    """Return the measures in words."""
    text = (
        f"by the labels: AUROC {values['auroc']:.4f}, average precision {values['average_precision']:.4f}, "
        f"precision at n {values['precision_at_n']:.4f}"
    )
    if "threshold" not in values:
        return text
    anomalous = values["true_positives"] + values["false_negatives"]
    normal = values["false_positives"] + values["true_negatives"]
    return (
        f"{text}\nabove the threshold: {values['true_positives']:,} of {anomalous:,} outliers, "
        f"{values['false_positives']:,} of {normal:,} normal items ({values['false_alarm_rate']:.2%})"
    )
