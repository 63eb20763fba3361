"""The training loop as a generator of reports: schedule, phases, and the step, the hot path."""
