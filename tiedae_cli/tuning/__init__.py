"""Which trainings a tuning makes: the combinations of a grid or Optuna's proposals, in this process or in several."""
