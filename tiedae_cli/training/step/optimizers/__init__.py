"""The optimizers, one module per value of ``training.optimizer``, named like the value."""
