"""One optimization step, the hot path: everything that makes it fast is in this folder."""

from tiedae_cli.training.step.gradient import missing_derivative
from tiedae_cli.training.step.training_step import TrainingStep

__all__ = ["TrainingStep", "missing_derivative"]
